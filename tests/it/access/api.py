"""Every operation of CodeArtifact's API, by boto3, against a Larder with the packages below."""

import hashlib
import json
import sys
import urllib.request

import boto3
from botocore.exceptions import ClientError

url = sys.argv[1]
api = boto3.client("codeartifact", endpoint_url=url)
OWNER = "123456789012"
D = {"domain": "my-domain", "domainOwner": OWNER}
R = {**D, "repository": "team"}
UI = {**R, "format": "npm", "namespace": "acme", "package": "ui"}
called = set()


def call(operation, **arguments):
    called.add(operation)
    method = "".join("_" + c.lower() if c.isupper() else c for c in operation).lstrip("_")
    answer = getattr(api, method)(**arguments)
    answer.pop("ResponseMetadata", None)
    return answer


def refused(code, status, operation, **arguments):
    called.add(operation)
    try:
        call(operation, **arguments)
    except ClientError as error:
        said = error.response
        assert said["Error"]["Code"] == code, said
        assert said["ResponseMetadata"]["HTTPStatusCode"] == status, said
        assert said["Error"]["Message"], said
        return said
    raise AssertionError(f"{operation} was not refused")


# The domain.
domain = call("DescribeDomain", **D)["domain"]
assert domain["arn"] == f"arn:aws:codeartifact:us-east-1:{OWNER}:domain/my-domain", domain
assert domain["repositoryCount"] == 2 and domain["assetSizeBytes"] > 0, domain
assert [it["name"] for it in call("ListDomains")["domains"]] == ["my-domain"]
missing = refused("ResourceNotFoundException", 404, "DescribeDomain", domain="elsewhere")
assert missing["resourceType"] == "domain" and missing["resourceId"] == "elsewhere", missing
refused("ResourceNotFoundException", 404, "DescribeDomain", domain="my-domain", domainOwner="999999999999")

# Tokens.
token = call("GetAuthorizationToken", **D, durationSeconds=900)
assert token["authorizationToken"] and token["expiration"]
call("GetAuthorizationToken", **D, durationSeconds=0)
refused("ValidationException", 400, "GetAuthorizationToken", **D, durationSeconds=899)

# Repositories.
assert call("DescribeRepository", **R)["repository"]["upstreams"] == [{"repositoryName": "public"}]
public = call("DescribeRepository", **{**R, "repository": "public"})["repository"]
assert {"externalConnectionName": "up:npm", "packageFormat": "npm", "status": "Available"} in public["externalConnections"]
gone = refused("ResourceNotFoundException", 404, "DescribeRepository", **{**R, "repository": "nowhere"})
assert gone["resourceType"] == "repository", gone
pages = api.get_paginator("list_repositories").paginate(PaginationConfig={"PageSize": 1})
assert [it["name"] for page in pages for it in page["repositories"]] == ["public", "team"]
called.add("ListRepositories")
assert [it["name"] for it in call("ListRepositoriesInDomain", **D, repositoryPrefix="te")["repositories"]] == ["team"]
endpoint = call("GetRepositoryEndpoint", **R, format="npm")["repositoryEndpoint"]
assert endpoint == f"{url}/npm/team/", endpoint
refused("ValidationException", 400, "GetRepositoryEndpoint", **R, format="cargo")

# Policies, with revisions.
document = json.dumps({"Version": "2012-10-17", "Statement": [{
    "Effect": "Allow", "Principal": {"AWS": "222233334444"}, "Action": "codeartifact:ReadFromRepository", "Resource": "*"}]})
for kind, where in (("Domain", D), ("Repository", R)):
    refused("ResourceNotFoundException", 404, f"Get{kind}PermissionsPolicy", **where)
    put = call(f"Put{kind}PermissionsPolicy", **where, policyDocument=document)["policy"]
    assert call(f"Get{kind}PermissionsPolicy", **where)["policy"] == put
    refused("ConflictException", 409, f"Put{kind}PermissionsPolicy", **where, policyDocument=document, policyRevision="old")
    again = call(f"Put{kind}PermissionsPolicy", **where, policyDocument=document, policyRevision=put["revision"])["policy"]
    refused("ValidationException", 400, f"Put{kind}PermissionsPolicy", **where, policyDocument='{"Statement": []}')
    refused("ConflictException", 409, f"Delete{kind}PermissionsPolicy", **where, policyRevision=put["revision"])
    call(f"Delete{kind}PermissionsPolicy", **where, policyRevision=again["revision"])
    refused("ResourceNotFoundException", 404, f"Delete{kind}PermissionsPolicy", **where)

# Packages.
pages = api.get_paginator("list_packages").paginate(**R, PaginationConfig={"PageSize": 2})
named = [(it["format"], it.get("namespace"), it["package"]) for page in pages for it in page["packages"]]
assert ("npm", "acme", "ui") in named and ("pypi", None, "acme-lib") in named and len(named) == len(set(named)), named
called.add("ListPackages")
only = call("ListPackages", **R, format="npm", namespace="acme", packagePrefix="u")["packages"]
assert [it["package"] for it in only] == ["ui"], only
assert only[0]["originConfiguration"]["restrictions"] == {"publish": "ALLOW", "upstream": "BLOCK"}, only
assert not call("ListPackages", **R, format="npm", namespace="acme", upstream="ALLOW")["packages"]
described = call("DescribePackage", **UI)["package"]
assert described["name"] == "ui" and described["namespace"] == "acme", described
refused("ResourceNotFoundException", 404, "DescribePackage", **{**UI, "package": "nothing"})
refused("ValidationException", 400, "DescribePackage", **{**UI, "format": "swift"})

# Versions.
versions = call("ListPackageVersions", **UI)
assert [it["version"] for it in versions["versions"]] == ["1.10.0", "1.9.0", "1.0.0"], versions
assert versions["defaultDisplayVersion"] == "1.10.0", versions
assert versions["versions"][0]["origin"] == {"domainEntryPoint": {"repositoryName": "team"}, "originType": "INTERNAL"}
pages = api.get_paginator("list_package_versions").paginate(**UI, sortBy="PUBLISHED_TIME", PaginationConfig={"PageSize": 1})
order = [it["version"] for page in pages for it in page["versions"]]
assert order == ["1.10.0", "1.9.0", "1.0.0"], order
refused("ValidationException", 400, "ListPackageVersions", **UI, nextToken="AAAA")
outside = call("ListPackageVersions", **{**R, "format": "npm", "package": "left-pad"})["versions"]
assert outside[0]["origin"] == {"domainEntryPoint": {"externalConnectionName": "up:npm"}, "originType": "EXTERNAL"}, outside
one = {**UI, "packageVersion": "1.0.0"}
version = call("DescribePackageVersion", **one)["packageVersion"]
assert version["status"] == "Published" and version["displayName"] == "@acme/ui" and version["publishedTime"], version
refused("ResourceNotFoundException", 404, "DescribePackageVersion", **{**one, "packageVersion": "7.7.7"})
assets = call("ListPackageVersionAssets", **one)
assert [it["name"] for it in assets["assets"]] == ["package.tgz"], assets
assert set(assets["assets"][0]["hashes"]) == {"MD5", "SHA-1", "SHA-256", "SHA-512"}, assets
asset = call("GetPackageVersionAsset", **one, asset="package.tgz")
assert len(asset["asset"].read()) == assets["assets"][0]["size"]
assert asset["assetName"] == "package.tgz" and asset["packageVersionRevision"] == version["revision"], asset
refused("ResourceNotFoundException", 404, "GetPackageVersionAsset", **one, asset="nothing.zip")
needs = call("ListPackageVersionDependencies", **{**R, "format": "pypi", "package": "acme-lib", "packageVersion": "1.0"})
assert needs["dependencies"][0]["package"] == "six", needs
spelled = call("DescribePackageVersion", **{**R, "format": "pypi", "package": "acme-lib", "packageVersion": "1.0.0"})
assert spelled["packageVersion"]["version"] == "1.0", spelled
refused("ResourceNotFoundException", 404, "GetPackageVersionReadme", **one)

# What becomes of versions.
unlisted = call("UpdatePackageVersionsStatus", **UI, versions=["v1.9.0", "1.9.0", "8.8.8"], targetStatus="Unlisted", expectedStatus="Published")
assert unlisted["successfulVersions"]["1.9.0"]["status"] == "Unlisted", unlisted
assert unlisted["failedVersions"]["8.8.8"]["errorCode"] == "NOT_FOUND", unlisted
stale = call("UpdatePackageVersionsStatus", **UI, versions=["1.9.0"], versionRevisions={"1.9.0": "old"}, targetStatus="Archived")
assert stale["failedVersions"]["1.9.0"]["errorCode"] == "MISMATCHED_REVISION", stale
other = call("UpdatePackageVersionsStatus", **UI, versions=["1.9.0"], targetStatus="Archived", expectedStatus="Published")
assert other["failedVersions"]["1.9.0"]["errorCode"] == "MISMATCHED_STATUS", other
assert [it["version"] for it in call("ListPackageVersions", **UI, status="Unlisted")["versions"]] == ["1.9.0"]
COPY = {**D, "sourceRepository": "team", "destinationRepository": "public", "format": "npm", "namespace": "acme", "package": "ui"}
copied = call("CopyPackageVersions", **COPY, versions=["1.0.0"])
assert copied["successfulVersions"]["1.0.0"]["status"] == "Published", copied
skipped = call("CopyPackageVersions", **COPY, versions=["1.10.0", "8.8.8"])
assert skipped["failedVersions"]["8.8.8"]["errorCode"] == "NOT_FOUND", skipped
assert skipped["failedVersions"]["1.10.0"]["errorCode"] == "SKIPPED", skipped
disposed = call("DisposePackageVersions", **UI, versions=["1.9.0"])
assert disposed["successfulVersions"]["1.9.0"]["status"] == "Disposed", disposed
deleted = call("DeletePackageVersions", **UI, versions=["1.10.0"])
assert deleted["successfulVersions"]["1.10.0"]["status"] == "Deleted", deleted
gone = call("DeletePackage", **{**R, "format": "pypi", "package": "acme-lib"})["deletedPackage"]
assert gone["package"] == "acme-lib", gone
refused("ResourceNotFoundException", 404, "DescribePackage", **{**R, "format": "pypi", "package": "acme-lib"})

# Tags.
arn = f"arn:aws:codeartifact:us-east-1:{OWNER}:repository/my-domain/team"
call("TagResource", resourceArn=arn, tags=[{"key": "team", "value": "web"}, {"key": "cost", "value": "7"}])
call("TagResource", resourceArn=arn, tags=[{"key": "team", "value": "core"}])
assert call("ListTagsForResource", resourceArn=arn)["tags"] == [{"key": "cost", "value": "7"}, {"key": "team", "value": "core"}]
call("UntagResource", resourceArn=arn, tagKeys=["cost"])
assert call("ListTagsForResource", resourceArn=arn)["tags"] == [{"key": "team", "value": "core"}]
refused("ResourceNotFoundException", 404, "ListTagsForResource", resourceArn=arn + "x")
many = [{"key": f"k{number}", "value": ""} for number in range(50)]
refused("ValidationException", 400, "TagResource", resourceArn=arn, tags=many)
call("TagResource", resourceArn=arn, tags=many[1:])
assert len(call("ListTagsForResource", resourceArn=arn)["tags"]) == 50
call("UntagResource", resourceArn=arn, tagKeys=[tag["key"] for tag in many])

# What is called has a bound.
for size, reason in [((1 << 20) - 1000, "polic"), (1 << 20, "more than 1048576 bytes")]:
    long = refused("ValidationException", 400, "PutDomainPermissionsPolicy", **D, policyDocument="x" * size)
    assert reason in long["Error"]["Message"], long

# Repositories that are made here, beside those of the configuration.
NEW = {**D, "repository": "another"}
made = call("CreateRepository", **NEW, description="of one team", upstreams=[{"repositoryName": "team"}],
            tags=[{"key": "team", "value": "web"}])["repository"]
assert made["upstreams"] == [{"repositoryName": "team"}] and made["description"] == "of one team", made
assert call("ListTagsForResource", resourceArn=made["arn"])["tags"] == [{"key": "team", "value": "web"}]
clash = refused("ConflictException", 409, "CreateRepository", **NEW)
assert clash["resourceType"] == "repository" and clash["resourceId"] == "another", clash
refused("ConflictException", 409, "CreateRepository", **R)
refused("ValidationException", 400, "CreateRepository", **{**D, "repository": "Another"})
refused("ValidationException", 400, "CreateRepository", **{**D, "repository": "more"}, upstreams=[{"repositoryName": "nowhere"}])
through = {**NEW, "format": "npm", "namespace": "acme", "package": "ui"}
assert [it["version"] for it in call("ListPackageVersions", **through, status="Published")["versions"]] == ["1.0.0"]
refused("ValidationException", 400, "UpdateRepository", **R, upstreams=[])
circle = refused("ValidationException", 400, "UpdateRepository", **NEW, upstreams=[{"repositoryName": "another"}])
assert "another \u2192 another" in circle["Error"]["Message"], circle
assert call("UpdateRepository", **NEW, description="", upstreams=[])["repository"]["upstreams"] == []
LINK = {**NEW, "externalConnection": "up:npm"}
linked = call("AssociateExternalConnection", **LINK)["repository"]
assert linked["externalConnections"][0]["externalConnectionName"] == "up:npm", linked
refused("ConflictException", 409, "AssociateExternalConnection", **LINK)
refused("ValidationException", 400, "AssociateExternalConnection", **{**LINK, "externalConnection": "elsewhere:npm"})
bearer = {"Authorization": "Bearer " + token["authorizationToken"]}
said = urllib.request.urlopen(urllib.request.Request(f"{url}/npm/another/left-pad", headers=bearer)).read()
assert b"1.3.0" in said
assert call("DisassociateExternalConnection", **LINK)["repository"]["externalConnections"] == []
refused("ResourceNotFoundException", 404, "DisassociateExternalConnection", **LINK)
call("CreateRepository", **{**D, "repository": "more"}, upstreams=[{"repositoryName": "another"}])
refused("ConflictException", 409, "DeleteRepository", **NEW)
call("DeleteRepository", **{**D, "repository": "more"})
policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "codeartifact:*", "Resource": "*"}]})
call("PutRepositoryPermissionsPolicy", **NEW, policyDocument=policy)
assert call("DeleteRepository", **NEW)["repository"]["name"] == "another"
# Another of its name begins with nothing of it.
call("CreateRepository", **NEW)
assert call("ListTagsForResource", resourceArn=made["arn"])["tags"] == []
refused("ResourceNotFoundException", 404, "GetRepositoryPermissionsPolicy", **NEW)
call("DeleteRepository", **NEW)
refused("ResourceNotFoundException", 404, "DeleteRepository", **NEW)
refused("ValidationException", 400, "DeleteRepository", **R)

# Origins.
closed = {"publish": "BLOCK", "upstream": "ALLOW"}
assert call("PutPackageOriginConfiguration", **UI, restrictions=closed)["originConfiguration"]["restrictions"] == closed
assert call("DescribePackage", **UI)["package"]["originConfiguration"]["restrictions"] == closed
refused("ResourceNotFoundException", 404, "PutPackageOriginConfiguration", **{**UI, "package": "nothing"}, restrictions=closed)

# Package groups.
def restrictions(group):
    return {entry: it["mode"] for entry, it in group["originConfiguration"]["restrictions"].items()}


EVERYTHING = {"PUBLISH": "ALLOW", "EXTERNAL_UPSTREAM": "ALLOW", "INTERNAL_UPSTREAM": "ALLOW"}
root = call("DescribePackageGroup", **D, packageGroup="/*")["packageGroup"]
assert restrictions(root) == EVERYTHING and "parent" not in root, root
GROUP = {**D, "packageGroup": "/npm/acme/*"}
refused("ResourceNotFoundException", 404, "DescribePackageGroup", **GROUP)
made = call("CreatePackageGroup", **GROUP, description="ours", contactInfo="web", tags=[{"key": "team", "value": "web"}])["packageGroup"]
assert made["arn"] == f"arn:aws:codeartifact:us-east-1:{OWNER}:package-group/my-domain/npm/acme/*", made
assert made["parent"]["pattern"] == "/*" and set(restrictions(made).values()) == {"INHERIT"}, made
assert made["originConfiguration"]["restrictions"]["PUBLISH"]["inheritedFrom"]["pattern"] == "/*", made
assert call("ListTagsForResource", resourceArn=made["arn"])["tags"] == [{"key": "team", "value": "web"}]
clash = refused("ConflictException", 409, "CreatePackageGroup", **GROUP)
assert clash["resourceType"] == "package-group" and clash["resourceId"] == "/npm/acme/*", clash
refused("ValidationException", 400, "CreatePackageGroup", **D, packageGroup="/npm/acme-~")
UI_GROUP = {**D, "packageGroup": "/npm/acme/ui$"}
assert call("CreatePackageGroup", **UI_GROUP)["packageGroup"]["parent"]["pattern"] == "/npm/acme/*"
assert call("UpdatePackageGroup", **GROUP, description="")["packageGroup"]["contactInfo"] == "web"
pages = api.get_paginator("list_package_groups").paginate(**D, PaginationConfig={"PageSize": 2})
called.add("ListPackageGroups")
assert [it["pattern"] for page in pages for it in page["packageGroups"]] == ["/*", "/npm/acme/*", "/npm/acme/ui$"]
assert [it["pattern"] for it in call("ListPackageGroups", **D, prefix="/npm/acme/u")["packageGroups"]] == ["/npm/acme/ui$"]
assert [it["pattern"] for it in call("ListSubPackageGroups", **GROUP)["packageGroups"]] == ["/npm/acme/ui$"]
held = call("GetAssociatedPackageGroup", **D, format="npm", namespace="acme", package="ui")
assert (held["packageGroup"]["pattern"], held["associationType"]) == ("/npm/acme/ui$", "STRONG"), held
held = call("GetAssociatedPackageGroup", **D, format="npm", namespace="acme", package="UI")
assert (held["packageGroup"]["pattern"], held["associationType"]) == ("/npm/acme/ui$", "WEAK"), held
assert call("ListAssociatedPackages", **UI_GROUP)["packages"] == [
    {"format": "npm", "namespace": "acme", "package": "ui", "associationType": "STRONG"}]
assert call("ListAssociatedPackages", **GROUP)["packages"] == []
before = call("ListAssociatedPackages", **D, packageGroup="/npm//*", preview=True)["packages"]
assert [it["package"] for it in before] == ["left-pad"], before
refused("ResourceNotFoundException", 404, "ListAssociatedPackages", **D, packageGroup="/npm//*")
changed = call("UpdatePackageGroupOriginConfiguration", **GROUP,
               restrictions={"PUBLISH": "ALLOW_SPECIFIC_REPOSITORIES", "EXTERNAL_UPSTREAM": "BLOCK"},
               addAllowedRepositories=[{"repositoryName": "team", "originRestrictionType": "PUBLISH"}])
assert changed["allowedRepositoryUpdates"] == {"PUBLISH": {"ADDED": ["team"], "REMOVED": []}}, changed
said = changed["packageGroup"]["originConfiguration"]["restrictions"]
assert said["PUBLISH"]["repositoriesCount"] == 1 and said["INTERNAL_UPSTREAM"]["effectiveMode"] == "ALLOW", said
inherited = call("DescribePackageGroup", **UI_GROUP)["packageGroup"]["originConfiguration"]["restrictions"]
assert inherited["EXTERNAL_UPSTREAM"]["effectiveMode"] == "BLOCK", inherited
assert call("ListAllowedRepositoriesForGroup", **GROUP, originRestrictionType="PUBLISH")["allowedRepositories"] == ["team"]
refused("ValidationException", 400, "UpdatePackageGroupOriginConfiguration", **GROUP,
        addAllowedRepositories=[{"repositoryName": "team", "originRestrictionType": "INTERNAL_UPSTREAM"}])
refused("ResourceNotFoundException", 404, "UpdatePackageGroupOriginConfiguration", **GROUP,
        addAllowedRepositories=[{"repositoryName": "nowhere", "originRestrictionType": "PUBLISH"}])
refused("ValidationException", 400, "UpdatePackageGroupOriginConfiguration", **D, packageGroup="/*", restrictions={"PUBLISH": "INHERIT"})
assert call("DeletePackageGroup", **GROUP)["packageGroup"]["pattern"] == "/npm/acme/*"
assert call("DescribePackageGroup", **UI_GROUP)["packageGroup"]["parent"]["pattern"] == "/*"
call("DeletePackageGroup", **UI_GROUP)
refused("ResourceNotFoundException", 404, "DeletePackageGroup", **GROUP)
refused("ValidationException", 400, "DeletePackageGroup", **D, packageGroup="/*")

# Packages of the generic format, file by file.
def file(name, content, version="1.0.0", **more):
    return {**R, "format": "generic", "namespace": "tools", "package": "kit", "packageVersion": version, "assetName": name,
            "assetContent": content, "assetSHA256": hashlib.sha256(content).hexdigest(), **more}


KIT = {**R, "format": "generic", "namespace": "tools", "package": "kit"}
large = bytes(range(256)) * 16384
first = call("PublishPackageVersion", **file("kit.tar.gz", large, unfinished=True))
assert first["status"] == "Unfinished" and first["asset"]["size"] == len(large), first
assert first["asset"]["hashes"]["SHA-256"] == hashlib.sha256(large).hexdigest(), first
last = call("PublishPackageVersion", **file("read me.txt", b"words"))
assert last["status"] == "Published" and last["versionRevision"], last
refused("ConflictException", 409, "PublishPackageVersion", **file("more.txt", b"more"))
refused("ConflictException", 409, "PublishPackageVersion", **file("read me.txt", b"other"))
assert call("PublishPackageVersion", **file("read me.txt", b"words"))["status"] == "Published"
names = [it["name"] for it in call("ListPackageVersionAssets", **KIT, packageVersion="1.0.0")["assets"]]
assert names == ["kit.tar.gz", "read me.txt"], names
read = call("GetPackageVersionAsset", **KIT, packageVersion="1.0.0", asset="kit.tar.gz")["asset"].read()
assert read == large
call("PublishPackageVersion", **file("kit.tar.gz", b"two", version="2.0.0", unfinished=True))
done = call("UpdatePackageVersionsStatus", **KIT, versions=["2.0.0"], expectedStatus="Unfinished", targetStatus="Published")
assert done["successfulVersions"]["2.0.0"]["status"] == "Published", done
assert call("GetPackageVersionAsset", **KIT, packageVersion="2.0.0", asset="kit.tar.gz")["asset"].read() == b"two"
assert [it["version"] for it in call("ListPackageVersions", **KIT)["versions"]] == ["2.0.0", "1.0.0"]
assert [it["package"] for it in call("ListPackages", **R, format="generic", namespace="tools")["packages"]] == ["kit"]
refused("ValidationException", 400, "PublishPackageVersion", **file("a/b", b"a"))
refused("ValidationException", 400, "PublishPackageVersion", **{**file("a", b"a"), "format": "npm"})
wrong = {**file("a", b"a", version="3.0.0"), "assetSHA256": hashlib.sha256(b"b").hexdigest()}
assert "was said to have" in refused("ValidationException", 400, "PublishPackageVersion", **wrong)["Error"]["Message"]
refused("ResourceNotFoundException", 404, "DescribePackageVersion", **KIT, packageVersion="3.0.0")

# What is not answered here says so.
for operation, arguments in {
    "CreateDomain": {"domain": "my-domain"},
    "DeleteDomain": D,
}.items():
    said = refused("ValidationException", 400, operation, **arguments)
    assert said["reason"] == "UNKNOWN_OPERATION" and "is not answered here" in said["Error"]["Message"], said

operations = set(api.meta.service_model.operation_names)
assert called == operations, operations ^ called
print(f"{len(operations)} operations called")
