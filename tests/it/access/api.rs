//! Every operation of the API, by boto3.

use super::{Aws, guarded, token};
use crate::publish::npm_document;
use crate::support::npm::{publish, tarball, version};
use crate::support::pypi;
use crate::support::tool::{said, succeeded};

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_the_model_is_answered_in_its_shapes() {
    let (upstream, larder) = guarded().await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    let (_, root) = token(&larder, "root").await;
    let bearer = format!("Bearer {root}");
    let headers = [("authorization", bearer.as_str())];
    for version in ["1.0.0", "1.9.0", "1.10.0"] {
        let document = npm_document("@acme/ui", version, &tarball("@acme/ui", version, &[]));
        larder
            .send(
                reqwest::Method::PUT,
                "/npm/team/@acme%2fui",
                &headers,
                Some(document),
            )
            .await
            .expect(201);
    }
    let mut form = b"--B\r\nContent-Disposition: form-data; name=\"content\"; filename=\"acme_lib-1.0-py3-none-any.whl\"\r\n\r\n".to_vec();
    form.extend_from_slice(&pypi::wheel("acme-lib", "1.0", &["six>=1"]));
    form.extend_from_slice(b"\r\n--B--\r\n");
    let typed = [
        headers[0],
        ("content-type", "multipart/form-data; boundary=B"),
    ];
    larder
        .send(
            reqwest::Method::POST,
            "/pypi/team/",
            &typed,
            Some(form.into()),
        )
        .await
        .expect(200);
    larder
        .get_with("/npm/team/left-pad/-/left-pad-1.3.0.tgz", &headers)
        .await
        .expect(200);
    let aws = Aws::new(&larder, "root").await;
    aws.tool.write("api.py", include_str!("api.py"));
    let output = aws.run("python", &["api.py", &larder.url]).await;
    succeeded(&output);
    println!("{}", said(&output).trim());
}
