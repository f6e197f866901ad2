//! The book's page of bounds. Keys, defaults and what they bound come from `config.example.toml`,
//! bounds without a key from the constants of the code; the tables here say what happens at each, and
//! which test meets it. `UPDATE_REFERENCE=1 cargo test reference` writes the page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::reference::{cell, is_up_to_date, parted};

/// Keys with a number: what happens at the bound, and the test that meets it.
#[rustfmt::skip]
const KEYS: &[(&str, &str, &str)] = &[
    ("access.failures_max", "further guesses are answered with 429 for a minute", "different_wrong_credentials_of_one_address_are_limited_and_one_sent_often_is_one"),
    ("events.at_once", "further events wait for their turn", "so_many_events_are_on_their_way_to_a_target_at_once"),
    ("events.attempts_max", "the event is put aside; `larder events replay` sends it again", "what_nobody_takes_is_put_aside_and_can_be_sent_again"),
    ("events.timeout", "the attempt counts as failed and is repeated later", "a_receiver_that_fails_and_stalls_gets_everything_in_order_in_the_end"),
    ("events.keep", "the event is forgotten, whether it was delivered or not", "an_event_is_forgotten_when_it_is_too_old"),
    ("log.buffer", "further lines are dropped and counted", "a_file_that_takes_nothing_keeps_nobody_waiting_and_no_more_than_its_bound"),
    ("server.threads", "sockets are dealt to the thread that has the fewest", "a_socket_is_dealt_to_the_thread_that_has_the_fewest"),
    ("server.connections_max", "the longest silent socket is closed; where none is silent, probes are answered, and other requests wait for `server.header_timeout`, then 503", "silent_sockets_slow_writers_and_slow_readers_keep_nobody_out"),
    ("server.connections_per_address_max", "the longest silent socket of the address is closed; where none is silent, the new one is refused. A proxy's client is answered with 503", "a_proxys_client_has_a_bound_of_its_own"),
    ("server.header_bytes_max", "the request is answered with 431, and its socket ends", "headers_too_large_and_broken_requests_end_their_own_socket_alone"),
    ("server.header_timeout", "the socket is closed", "a_socket_without_a_request_ends_whatever_it_has_said_so_far"),
    ("server.write_timeout", "the socket is closed", "a_reader_that_takes_nothing_ends_and_a_slow_one_is_served"),
    ("server.question_bytes_max", "the question is answered with 413", "questions_beyond_the_bound_are_refused"),
    ("server.question_memory", "the question is answered with 503", "bodies_in_memory_have_one_bound_together"),
    ("server.drain", "requests under way are cut off", "a_request_that_outlasts_the_end_is_cut_off"),
    ("cache.max_size", "the least recently used files go", "the_coldest_blobs_leave_when_there_are_too_many"),
    ("cache.min_free", "nothing new is kept, and everything is served", "a_full_disk_turns_caching_off_and_not_the_proxy"),
    ("cache.rendered_memory", "the least used documents go", "so_many_bytes_of_renderings_are_in_memory"),
    ("cache.rendered_disk", "the oldest documents go", "so_many_bytes_of_renderings_are_on_disk_and_the_oldest_go"),
    ("cache.blob_memory", "the least used files leave the memory", "the_blobs_in_memory_have_one_bound_together"),
    ("cache.small_blob", "larger files are served from the disk", "a_small_blob_is_served_from_memory_and_a_larger_one_from_the_disk"),
    ("cache.blob_mapped", "the least used files are mapped anew for each request", "what_is_mapped_stays_within_its_bound_and_goes_with_the_file"),
    ("cache.answers_max", "the least used answers are made anew", "so_many_answers_are_remembered"),
    ("cache.facts_memory", "the least used facts are read anew", "so_many_bytes_of_facts_are_known"),
    ("cache.absent_for", "the registry is asked again", "what_a_registry_has_and_has_not_is_asked_for_again_after_a_while"),
    ("cache.absences_max", "the oldest is forgotten, and asked for again", "so_many_absences_are_remembered_and_the_oldest_are_forgotten_first"),
    ("cache.fresh_for", "the registry is asked again", "what_a_registry_has_and_has_not_is_asked_for_again_after_a_while"),
    ("fetch.per_connection_max", "further requests wait", "no_more_requests_go_to_a_registry_at_once_than_may_be"),
    ("fetch.connect_timeout", "the attempt counts as failed", "a_registry_that_accepts_no_connection_is_waited_for_so_long"),
    ("fetch.read_timeout", "a download is resumed; another request counts as failed", "a_stalled_body_is_resumed"),
    ("fetch.retries", "the failure is told", "errors_that_pass_are_tried_again"),
    ("fetch.patience", "the request is answered with 503 or 504", "a_throttled_upstream_is_waited_for_and_never_becomes_not_found"),
    ("fetch.question_timeout", "the question is answered with 504", "questions_to_a_silent_registry_end_soon"),
    ("fetch.dates_max", "the date of an older version is not known, and a rule about ages refuses it", "a_listing_asks_for_a_bounded_number_of_dates_the_newest_first"),
    ("fetch.stale_after", "the older copy is served", "a_silent_registry_is_waited_for_once_and_asked_by_one_at_a_time"),
    ("fetch.failures_max", "the host rests", "after_failures_in_a_row_it_rests_and_then_one_tries"),
    ("fetch.rest", "one request tries again", "after_failures_in_a_row_it_rests_and_then_one_tries"),
    ("fetch.document_bytes_max", "the request is answered with 502, which names this key", "documents_beyond_the_bound_are_refused_with_the_key_to_raise"),
    ("fetch.pieces_ahead_max", "the download goes no faster than the disk", "memory_does_not_grow_with_a_download"),
    ("ahead.at_once", "further names wait", "so_many_documents_are_fetched_ahead_at_once"),
    ("ahead.depth_max", "dependencies further down are fetched when they are asked for", "dependencies_are_fetched_ahead_so_deep"),
    ("ahead.bytes_max", "nothing more is fetched ahead", "so_many_bytes_are_fetched_ahead_before_they_are_asked_for"),
    ("ahead.waiting_max", "further names are dropped", "so_many_names_wait_to_be_fetched_ahead"),
    ("packages.connections", "further statements wait for three seconds, then 503", "so_many_connections_are_open_at_once_and_further_statements_wait"),
    ("report.keep", "the days are forgotten", "days_that_are_not_remembered_any_more_are_forgotten"),
    ("report.pulls_max", "the oldest lines are forgotten", "so_many_lines_of_pulls_are_kept_and_the_oldest_go_first"),
    ("report.wishes_max", "the oldest are forgotten", "so_many_wishes_are_remembered"),
    ("upload.body_bytes_max", "the publish is answered with 413", "bodies_and_words_have_bounds"),
    ("upload.document_bytes_max", "the publish is answered with 413", "words_have_a_bound_and_bodies_an_end"),
    ("upload.at_once", "further publishes wait for `upload.stall_timeout`, then 503", "one_client_has_not_all_places"),
    ("upload.at_once_each", "further publishes of the same one wait for `upload.stall_timeout`, then 503", "one_client_has_not_all_places"),
    ("upload.stall_timeout", "the publish ends", "a_publisher_that_stalls_is_not_waited_for"),
    ("upload.body_timeout", "the publish ends", "a_body_that_takes_too_long_as_a_whole_ends"),
    ("upload.answer_timeout", "the publish is answered with 504", "a_registry_that_does_not_answer_a_publish_is_waited_for_so_long"),
    ("fetch.render_memory", "later documents wait; one that is larger than the whole bound is worked on alone", "documents_that_find_no_room_wait_in_order"),
    ("scrub.rate", "the reading rests for as long as it was ahead", "no_more_is_read_in_a_second_than_the_rate"),
];

/// Bounds without a key: their file, their constant, what it bounds, what happens at it, and the test
/// that meets it.
#[rustfmt::skip]
const CONSTANTS: &[(&str, &str, &str, &str, &str)] = &[
    ("access/manage.rs", "TOKEN_SECONDS_MAX", "the seconds that an authorization token holds", "the call is refused", "a_token_holds_no_longer_than_may_be"),
    ("access/oidc.rs", "DOCUMENT_BYTES_MAX", "a document of an issuer of identity tokens", "the exchange is refused", "a_document_of_an_issuer_is_read_up_to_its_bound"),
    ("access/policy/document.rs", "POLICY_BYTES_MAX", "a policy", "it is refused", "a_policy_has_a_bound"),
    ("access/sigv4.rs", "SKEW_MAX", "the age of a signed request", "the request is refused", "tokens_and_signatures_end_when_the_clock_has_passed_them"),
    ("access/throttle.rs", "COUNTED_MAX", "addresses whose guesses are counted", "the least used is counted anew", "so_many_addresses_are_counted_and_no_more"),
    ("access/throttle.rs", "KNOWN_MAX", "wrong credentials of one address that are known again", "the oldest counts anew", "what_is_remembered_of_an_address_is_bounded"),
    ("access/token.rs", "TOKEN_BYTES_MAX", "a token", "it is refused", "an_identity_token_is_no_longer_than_may_be"),
    ("airgap/bundle.rs", "HEAD_BYTES_MAX", "the head of a bundle", "the bundle is refused", "what_is_held_in_memory_of_a_bundle_has_a_bound"),
    ("airgap/bundle.rs", "LINE_BYTES_MAX", "a line of a bundle's manifest", "the bundle is refused", "a_line_of_a_manifest_has_a_bound"),
    ("airgap/lockfile/npm.rs", "DEPTH_MAX", "dependencies within dependencies of a lockfile", "the lockfile is refused", "dependencies_within_dependencies_are_nested_no_deeper_than_may_be"),
    ("airgap/maven/closure.rs", "VISITS_MAX", "poms that one build's closure visits", "the build is refused", "a_walk_without_end_is_not_taken_for_whole"),
    ("airgap/maven/model.rs", "DEPTH_MAX", "parents of parents, and BOMs within BOMs", "further ones are not read", "parents_and_boms_are_followed_so_far_and_no_further"),
    ("airgap/resolve.rs", "ROUNDS_MAX", "rounds of finding out what a closure needs", "the build is refused", "poms_that_lead_on_and_on_are_no_closure"),
    ("airgap/warm.rs", "NEWEST_TRIED_MAX", "versions that are tried where the newest is held back", "the newest is told as held back", "so_many_versions_are_tried_where_the_newest_are_held_back"),
    ("codeartifact/call.rs", "UPSTREAMS_MAX", "direct upstreams of a repository of the API", "the call is refused", "a_repository_has_a_bounded_number_of_upstreams"),
    ("codeartifact/call.rs", "VERSIONS_MAX", "versions in one call of the API", "the call is refused", "versions_are_counted_before_they_are_read"),
    ("codeartifact/group.rs", "CONTACT_CHARS_MAX", "characters of a package group's contact", "the call is refused", "a_contact_has_no_more_characters_than_may_be"),
    ("codeartifact/tag.rs", "TAGS_MAX", "tags of one resource", "the call is refused", "a_resource_has_no_more_tags_than_may_be"),
    ("config/oidc.rs", "EXPIRES_MAX", "the time that a token of an exchange holds", "the configuration is refused", "a_token_of_an_exchange_holds_no_longer_than_may_be"),
    ("config/scope.rs", "DECODINGS_MAX", "encodings within encodings of a path", "the path is refused", "a_path_is_decoded_so_often_and_one_that_is_encoded_more_often_is_refused"),
    ("connection/cdn_loop.rs", "HOPS_MAX", "Larders that a request came through", "it is answered with 508", "a_request_that_came_through_too_many_is_taken_for_one_that_came_back"),
    ("connection/client.rs", "OTHER_HOSTS_MAX", "hosts named by documents whose failures are counted", "the least used is counted anew", "so_many_other_hosts_are_known"),
    ("connection/client.rs", "REDIRECTS_MAX", "redirects that are followed", "the request counts as failed", "a_circle_of_redirects_ends"),
    ("connection/credential.rs", "ANSWER_BYTES_MAX", "an answer with a rented token", "the token is not taken", "an_answer_with_a_token_is_read_up_to_its_bound"),
    ("connection/credential.rs", "PATIENCE", "the time in which CodeArtifact has to give a token", "the request to it fails", "a_token_is_waited_for_so_long"),
    ("event/refusal.rs", "REMEMBERED_MAX", "refusals that are not told twice", "the least used may be told again", "so_many_refusals_are_remembered"),
    ("event/refusal.rs", "TOLD_MAX", "refusals that are told to targets within a minute", "further ones are in the log alone", "a_refusal_is_told_once_in_a_while_and_no_flood_of_them_is"),
    ("event/send.rs", "ANSWER_BYTES_MAX", "an event target's answer", "the rest is not read", "an_answer_of_a_target_is_read_up_to_its_bound"),
    ("fetch/document.rs", "TOLD_MAX", "documents whose refusal is not told twice", "the least used may be told again", "so_many_documents_are_not_told_of_twice"),
    ("fetch/intake.rs", "UNKEPT_BYTES_MAX", "a document that is served from memory because the disk is full", "it is refused", "a_document_that_finds_no_place_is_passed_on_up_to_a_bound"),
    ("format/archive/mod.rs", "DIRECTORY_BYTES_MAX", "all names of an archive", "the publish is refused", "the_names_of_an_archive_have_one_bound_together"),
    ("format/archive/mod.rs", "ENTRIES_MAX", "entries of an archive", "the publish is refused", "an_archive_has_no_more_entries_than_may_be"),
    ("format/archive/mod.rs", "METADATA_BYTES_MAX", "a file of metadata in a package", "the publish is refused", "metadata_is_small_and_an_archive_unpacks_to_no_more_than_so_much"),
    ("format/archive/names.rs", "PATH_BYTES_MAX", "a name in an archive", "the publish is refused", "a_name_is_no_longer_than_a_path_that_can_be_opened"),
    ("format/archive/tar.rs", "DESCRIPTION_BYTES_MAX", "a header that describes the entry behind it", "the publish is refused", "a_header_that_describes_a_file_has_a_bound"),
    ("format/archive/tar.rs", "UNPACKED_BYTES_MAX", "unpacking an archive", "the publish is refused", "how_far_an_archive_is_unpacked_grows_with_its_size_up_to_a_bound"),
    ("format/archive/tar.rs", "UNPACKED_TIMES_MAX", "unpacking an archive, in times of its size", "the publish is refused", "metadata_is_small_and_an_archive_unpacks_to_no_more_than_so_much"),
    ("format/arriving.rs", "MEMBERS_MAX", "members of a document's outermost object", "the document is refused", "a_documents_outermost_object_has_no_more_members_than_may_be"),
    ("format/arriving.rs", "TEXT_BYTES_MAX", "a text that says which package a document is of", "the document is refused", "a_name_longer_than_any_is_no_packages"),
    ("format/generic.rs", "NAME_CHARS_MAX", "characters of a generic package's name", "it is refused", "a_name_has_no_more_characters_than_may_be"),
    ("format/maven/metadata.rs", "ELEMENTS_MAX", "elements outside lists of a `maven-metadata.xml`", "it is refused", "a_list_may_be_long_and_all_else_may_not"),
    ("format/maven/pom.rs", "DEPTH_MAX", "elements within elements of a pom", "it is refused", "a_pom_is_nested_no_deeper_than_may_be"),
    ("format/maven/upload.rs", "POM_BYTES_MAX", "a published pom", "the publish is refused", "a_pom_is_no_larger_than_may_be"),
    ("format/npm/upload.rs", "MANIFEST_BYTES_MAX", "a manifest of a publish", "the publish is refused", "a_manifest_is_no_larger_than_may_be"),
    ("format/npm/upload.rs", "TAGS_BYTES_MAX", "the tags of a publish", "the publish is refused", "the_tags_of_a_publish_are_no_longer_than_may_be"),
    ("format/nuget/render.rs", "DEPTH_MAX", "values within values of a registration", "it is not understood", "a_registration_is_nested_no_deeper_than_may_be"),
    ("format/nuget/upload.rs", "GROUPS_MAX", "groups of dependencies of a nuspec", "the publish is refused", "a_nuspec_has_no_more_groups_of_dependencies_than_may_be"),
    ("format/protocol.rs", "VERSION_BYTES_MAX", "a version", "it is none", "a_version_is_no_longer_than_may_be"),
    ("format/pypi/headers.rs", "HEADERS_MAX", "headers of a file of metadata", "the publish is refused", "metadata_has_no_more_headers_than_may_be"),
    ("format/pypi/needs.rs", "TEXT_BYTES_MAX", "a source distribution's `pyproject.toml`", "`larder warm` tells of it, and what it needs is not fetched", "no_file_is_read_further_than_its_bound"),
    ("format/pypi/needs.rs", "WORDS_BYTES_MAX", "a wheel's metadata, and twice its directory", "`larder warm` tells of it, and what it needs is not fetched", "no_file_is_read_further_than_its_bound"),
    ("format/pypi/recognise.rs", "HEADING_BYTES_MAX", "a page's headings", "what is longer is not read", "a_heading_is_read_up_to_its_bound"),
    ("format/rule/group.rs", "PATTERN_CHARS_MAX", "characters of a package group's pattern", "it is refused", "a_pattern_has_no_more_characters_than_may_be"),
    ("format/rule/pattern.rs", "WILDCARDS_MAX", "wildcards of a pattern that stand for any text", "further ones stand for a letter", "so_many_wildcards_stand_for_any_text_and_further_ones_for_a_letter"),
    ("format/text.rs", "DECLARATION_BYTES_MAX", "an XML declaration", "it is none", "a_declaration_is_looked_for_up_to_its_bound"),
    ("format/upload.rs", "DEPENDENCIES_MAX", "dependencies of a published version", "the publish is refused", "a_version_has_no_more_dependencies_than_may_be"),
    ("format/upload.rs", "UNPACKED_BYTES_MAX", "unpacking a source distribution in search of its `pyproject.toml`", "`larder warm` tells of it, and what it needs is not fetched", "an_entry_is_looked_for_in_an_archive_up_to_a_bound"),
    ("format/xml.rs", "DEPTH_MAX", "elements within elements of XML", "it is refused", "elements_are_nested_no_deeper_than_may_be"),
    ("repository/explain.rs", "HELD_MAX", "versions that are held back, of which `larder who-decides` tells", "further ones are not told of", "so_many_versions_are_looked_at_and_so_many_are_told_of"),
    ("repository/explain.rs", "LOOKED_AT_MAX", "versions that `larder who-decides` looks at where none is named", "older ones are not told of", "so_many_versions_are_looked_at_and_so_many_are_told_of"),
    ("repository/form.rs", "HEAD_BYTES_MAX", "the head of a field of a form", "the publish is refused", "a_head_without_end_is_read_up_to_its_bound"),
    ("repository/forward.rs", "SAID_BYTES_MAX", "what a registry said to a publish", "the rest is not kept", "of_a_registrys_words_the_beginning_is_kept"),
    ("repository/notice.rs", "NAME_BYTES_MAX", "a name in a notice", "the notice leaves it out", "names_of_others_can_neither_break_a_header_nor_lengthen_it"),
    ("repository/notice.rs", "NOTICE_BYTES_MAX", "a notice to npm", "its advice is left out", "advice_that_does_not_fit_into_a_notice_is_left_out"),
    ("repository/own.rs", "WHOLE_WEIGHT_MAX", "a package in a database elsewhere that is kept in memory with its manifests", "they are read when they are asked for", "a_large_package_is_not_kept_with_its_manifests"),
    ("repository/question.rs", "REFUSAL_BYTES_MAX", "a registry's words where it refuses a question", "the rest is not passed on", "a_question_ends_soon_with_what_the_registry_said"),
    ("repository/receive.rs", "FIELDS_MAX", "fields of a form", "the publish is refused", "a_form_of_fields_without_end_is_read_up_to_its_bound"),
    ("repository/schedule.rs", "SPREAD_MAX", "the time by which the tasks of several Larders are spread", "the task begins", "a_fleet_does_not_begin_at_once"),
    ("server/api.rs", "CALL_BYTES_MAX", "a call of the API, without an asset", "it is answered with 400, as the API's model has it", "every_operation_of_the_model_is_answered_in_its_shapes"),
    ("server/control.rs", "COMMANDERS_MAX", "commands and runs at the control socket", "the longest silent one ends; where none is silent, the new one is refused", "so_many_commands_are_under_way_and_further_ones_are_refused"),
    ("server/control.rs", "COMMAND_BYTES_MAX", "a command", "it is refused", "a_command_beyond_the_bound_is_refused"),
    ("server/conversation.rs", "OWN_RESETS_MAX", "streams of HTTP/2 that Larder resets for their mistakes", "the socket is closed", "a_client_whose_requests_are_mistakes_loses_its_socket"),
    ("server/conversation.rs", "STREAMS_MAX", "requests under way at one socket of HTTP/2", "further ones are refused until one ends", "so_many_requests_are_under_way_at_one_socket"),
    ("server/conversation.rs", "UNSEEN_RESETS_MAX", "streams of HTTP/2 that are reset before they are looked at", "the socket is closed", "a_client_that_resets_its_requests_loses_its_socket"),
    ("server/exchange.rs", "BYTES_MAX", "a request to exchange an identity token", "it is answered with 413", "an_identity_token_beyond_the_bound_is_refused"),
    ("server/place.rs", "BROKEN_OFF_MAX", "answers in a row that one socket's client breaks off", "the socket is closed", "who_breaks_off_every_answer_loses_the_socket"),
    ("server/place.rs", "LATE_MAX", "sockets beyond `server.connections_max` that wait for a place", "the one that waits longest is closed", "a_socket_that_larder_works_for_keeps_its_place"),
    ("server/response_cache.rs", "KEY_BYTES_MAX", "a request whose answer is given again by one look-up", "its answer is made anew", "a_request_with_a_long_name_is_answered_anew"),
    ("server/workers.rs", "WAITING_MAX", "sockets that wait for one thread", "further ones wait to be accepted", "so_many_sockets_wait_for_a_thread_that_is_at_work"),
    ("store/archive.rs", "WINDOW_LOG_MAX", "the window of a bundle's or backup's compression, as a power of two", "the bundle or backup is refused", "an_archive_gets_no_larger_window_than_may_be"),
    ("store/backup/archive.rs", "MANIFEST_BYTES_MAX", "the manifest of a backup in one file", "the backup is refused", "a_manifest_in_a_file_has_a_bound"),
    ("store/catalog/absence.rs", "WAITING_MAX", "absences that are not written yet", "they are written at once", "notes_of_one_key_are_joined_and_written_once_and_no_more_wait_than_may"),
    ("store/catalog/alias.rs", "LATE_MAX", "addresses of Larder's own making that are known in memory", "the least used are read from the catalog", "so_many_addresses_are_known_in_memory_and_all_in_the_catalog"),
    ("store/catalog/usage.rs", "NOTES_MAX", "uses of files that are not written yet", "further uses are not noted", "notes_of_one_key_are_joined_and_written_once_and_no_more_wait_than_may"),
    ("store/catalog/wish.rs", "WAITING_MAX", "wishes that are not written yet", "further ones are not noted", "notes_of_one_key_are_joined_and_written_once_and_no_more_wait_than_may"),
    ("store/files.rs", "OPEN_MAX", "files that stay open between requests", "the least used is closed", "however_many_files_are_read_larder_goes_on_answering_and_ends"),
    ("store/packages/door.rs", "CONNECTING_MAX", "the time in which a database elsewhere has to give a connection", "the request is answered with 503", "away"),
    ("store/packages/door.rs", "STATEMENT_MAX", "the time that a statement there may take, or its next row", "the request is answered with 503", "away"),
    ("store/packages/door.rs", "TRYING_MAX", "the time that a connection may take to say that it is there", "another one is opened", "away"),
    ("store/packages/outside.rs", "NOTED_MAX", "names from outside that are known to be written", "the least used is written again", "so_many_names_are_known_to_be_written"),
    ("store/packages/outside.rs", "UNKNOWN_MAX", "names that are known not to have been seen outside", "the least used is asked for again", "a_name_that_was_unknown_is_known_as_soon_as_it_was_seen"),
    ("store/packages/outside.rs", "WAITING_MAX", "names from outside that are not written yet", "they are written at once", "notes_of_one_key_are_joined_and_written_once_and_no_more_wait_than_may"),
    ("store/packages/remote.rs", "CONNECTING_MAX", "the time that connecting to a database elsewhere may take at the start", "the start ends with a word", "a_database_that_does_not_answer_ends_the_start"),
    ("store/packages/remote.rs", "LOOKING_MAX", "the time that looking at its tables may take", "the start ends with a word", "a_database_that_does_not_answer_ends_the_start"),
    ("store/recording.rs", "UNSETTLED_MAX", "files of publishes that may have to be removed", "they are looked through at once", "a_list_of_cancelled_changes_that_is_full_is_swept_before_the_next_change"),
    ("store/rendered.rs", "BUFFERED_BYTES_MAX", "a rendered document that waits in memory to be written to disk", "a larger one is written at once", "renderings_too_large_for_the_disk_tier_are_in_memory_alone"),
    ("store/rendered.rs", "ON_DISK_BYTES_MAX", "a rendered document on disk", "a larger one is kept in memory alone", "renderings_too_large_for_the_disk_tier_are_in_memory_alone"),
    ("telemetry/audit.rs", "PATIENCE", "the time that an answer waits for its audit record", "the record goes to the log, and is counted", "a_file_that_takes_nothing_holds_up_nobody_for_long"),
    ("telemetry/audit.rs", "WAITING_MAX", "audit records that wait for their file", "further ones go to the log, and are counted", "a_file_that_takes_nothing_holds_up_nobody_for_long"),
    ("telemetry/ledger.rs", "PULLS_MAX", "pulls that are not written yet, sixteen times", "further ones are not noted", "what_waits_is_bounded"),
    ("telemetry/runs.rs", "LEASE_LASTS", "the time that a `larder run` keeps another's Larder from ending without a word", "the lease ends", "a_lease_that_is_not_taken_anew_ends"),
    ("telemetry/upstreams.rs", "WAITING_MAX", "changes of upstreams that are not told yet", "the oldest is not told", "whoever_is_slower_misses_the_oldest_changes"),
];

/// Constants whose name ends like a bound's, and that bound nothing that comes from outside.
const NO_BOUNDS: &[(&str, &str)] = &[
    ("access/token.rs", "AHEAD_SECONDS_MAX"),
    ("airgap/export/mod.rs", "PIECES_AHEAD_MAX"),
    ("connection/credential.rs", "MARGIN_SECONDS_MAX"),
    ("event/send.rs", "SAID_CHARS_MAX"),
    ("fetch/freshness.rs", "STALE_SECONDS_MAX"),
    ("format/archive/zip.rs", "COMMENT_BYTES_MAX"),
    ("format/arriving.rs", "AT_ONCE_BYTES_MAX"),
    ("format/conformance/mod.rs", "TIMES_MAX"),
    ("format/upload.rs", "TAIL_BYTES_MAX"),
    ("server/account.rs", "PATH_BYTES_MAX"),
    ("server/control.rs", "PIECES_AHEAD_MAX"),
    ("server/host.rs", "LABEL_BYTES_MAX"),
    ("server/host.rs", "NAME_BYTES_MAX"),
    ("store/door.rs", "PATH_BYTES_MAX"),
    ("store/lock.rs", "ASKED_MAX"),
    ("store/map.rs", "LOOKS_MAX"),
    ("store/packages/delivery.rs", "NEXT_MAX"),
    ("store/pieces.rs", "SPARE_MAX"),
    ("store/rendered.rs", "BLOCK_BYTES_MAX"),
    ("store/sql/mod.rs", "CHECKED_BYTES_MAX"),
    ("telemetry/lines.rs", "SPARE_BYTES_MAX"),
    ("telemetry/work.rs", "FAILURE_CHARS_MAX"),
];

/// The rooms whose bounds have to be in the tables, all of them.
const ROOMS: [&str; 12] = [
    "access",
    "airgap",
    "codeartifact",
    "config",
    "connection",
    "event",
    "fetch",
    "format",
    "repository",
    "server",
    "store",
    "telemetry",
];

/// A key of the example that bounds something.
struct Key {
    name: String,
    value: String,
    bounds: String,
}

/// The keys with a number, in the example's order.
fn keys(example: &str) -> Vec<Key> {
    let (mut section, mut keys) = (String::new(), Vec::<Key>::new());
    let mut is_numbers = false;
    for line in example.lines() {
        let (setting, remark) = parted(line);
        if let Some(name) = setting.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
            is_numbers = false;
        } else if let Some((key, value)) = setting.split_once(" = ") {
            let value = value.trim();
            let is_number = value
                .trim_start_matches('"')
                .starts_with(|c: char| c.is_ascii_digit());
            // A bracket begins the name of a list of tables; a domain has a number for a name.
            let is_section =
                !matches!(section.as_str(), "" | "domain") && !section.starts_with('[');
            is_numbers = is_number && is_section;
            if is_numbers {
                keys.push(Key {
                    name: format!("{section}.{key}"),
                    value: value.trim_matches('"').to_owned(),
                    bounds: remark.to_owned(),
                });
            }
        } else if setting.is_empty() && !remark.is_empty() && line.starts_with(' ') {
            if let Some(last) = keys.last_mut().filter(|_| is_numbers) {
                last.bounds.push(' ');
                last.bounds.push_str(remark);
            }
        } else {
            is_numbers = false;
        }
    }
    keys
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The Rust files below a folder, by their paths below it.
#[allow(clippy::disallowed_methods, reason = "the sources are files")]
fn sources(below: &str) -> BTreeMap<String, String> {
    let root = folder(below);
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                found.insert(name, std::fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

/// The constants that a file defines: names and expressions.
fn constants(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let (before, rest) = line.split_once("const ")?;
        let (name, rest) = rest.split_once(": ")?;
        let (_, value) = rest.split_once(" = ")?;
        let is_own = before.is_empty() || before.starts_with("pub");
        is_own.then(|| (name, value.trim_end_matches(';')))
    })
}

/// A constant's value in words.
fn in_words(name: &str, value: &str) -> String {
    let (unit, inner) = match value.split_once("::from_") {
        Some((_, call)) => call.trim_end_matches(')').split_once('(').unwrap(),
        None => ("", value),
    };
    let factor = |it: &str| it.trim().replace('_', "").parse::<u64>();
    let product = inner.split('*').map(factor).product::<Result<u64, _>>();
    let number = product.unwrap_or_else(|_| panic!("`{name} = {value}` is no number"));
    let seconds = match unit {
        "mins" => Some(number * 60),
        "secs" => Some(number),
        _ => name.contains("SECONDS").then_some(number),
    };
    match (seconds, name.contains("BYTES")) {
        (Some(seconds), _) if seconds >= 120 && seconds % 60 == 0 && !unit.is_empty() => {
            format!("{} min", seconds / 60)
        }
        (Some(seconds), _) => format!("{} s", grouped(seconds)),
        (None, true) => [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
            .into_iter()
            .find(|(_, one)| number.is_multiple_of(*one))
            .map_or_else(
                || format!("{} bytes", grouped(number)),
                |(unit, one)| format!("{} {unit}", number / one),
            ),
        (None, false) => grouped(number),
    }
}

/// `4,096`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn page() -> String {
    let mut page = String::from(
        "# Bounds\n\nEvery cache, queue, buffer and wait has a bound. This page is made from `config.example.toml` and from the constants\n\
         of the code. A size is bytes or `\"64KiB\"`, a time is `\"30s\"`, `\"5m\"`, `\"7d\"`.\n\n## With a key\n\n\
         | key | default | what it bounds | what happens there |\n| --- | --- | --- | --- |\n",
    );
    for Key {
        name,
        value,
        bounds,
    } in keys(include_str!("../../config.example.toml"))
    {
        let row = KEYS.iter().find(|(key, ..)| *key == name);
        let (_, then, _) =
            row.unwrap_or_else(|| panic!("cli::bounds::KEYS says nothing of {name}"));
        let (bounds, then) = (cell(&bounds), cell(then));
        let _ = writeln!(page, "| `{name}` | {value} | {bounds} | {then} |");
    }
    page.push_str(
        "\n## Without a key\n\n| bound | value | what happens there |\n| --- | --- | --- |\n",
    );
    let sources = sources("src");
    let mut rows: Vec<[String; 3]> = Vec::new();
    for (file, constant, bounds, then, _) in CONSTANTS {
        let text = sources.get(*file);
        let text = text.unwrap_or_else(|| panic!("there is no src/{file}"));
        let value = constants(text).find(|(name, _)| name == constant);
        let (_, value) = value.unwrap_or_else(|| panic!("there is no {constant} in src/{file}"));
        rows.push([cell(bounds), in_words(constant, value), cell(then)]);
    }
    rows.sort();
    for row in rows {
        let _ = writeln!(page, "| {} |", row.join(" | "));
    }
    page
}

#[test]
fn the_page_of_bounds_is_what_the_code_says() {
    is_up_to_date("bounds.md", &page());
}

#[test]
fn every_row_of_the_bounds_is_of_a_key_or_a_constant_that_is_there_and_none_is_missing() {
    let keys = keys(include_str!("../../config.example.toml"));
    let there: BTreeSet<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    let rows: BTreeSet<&str> = KEYS.iter().map(|(key, ..)| *key).collect();
    assert_eq!(rows, there);
    let listed = CONSTANTS.iter().map(|(file, name, ..)| (*file, *name));
    let listed: BTreeSet<(&str, &str)> = listed.chain(NO_BOUNDS.iter().copied()).collect();
    assert_eq!(listed.len(), CONSTANTS.len() + NO_BOUNDS.len());
    for (file, text) in sources("src") {
        let room = file.split('/').next().unwrap_or_default();
        for (name, _) in constants(&text).filter(|(name, _)| name.ends_with("_MAX")) {
            let is_listed = listed.contains(&(file.as_str(), name));
            assert!(
                is_listed || !ROOMS.contains(&room),
                "{name} of src/{file} is neither in cli::bounds::CONSTANTS nor in NO_BOUNDS"
            );
        }
    }
}

#[test]
fn each_bound_is_met_by_a_test() {
    let texts: Vec<String> = ["src", "tests"]
        .into_iter()
        .flat_map(|folder| sources(folder).into_values())
        .collect();
    let keyed = KEYS.iter().map(|(key, _, test)| (*key, *test));
    let constants = CONSTANTS.iter().map(|(_, name, .., test)| (*name, *test));
    let there = |test: &str| {
        let definition = format!("fn {test}(");
        texts.iter().any(|text| text.contains(&definition))
    };
    let wrong: Vec<_> = keyed
        .chain(constants)
        .filter(|(_, test)| !there(test))
        .collect();
    assert!(wrong.is_empty(), "there are no such tests: {wrong:?}");
}

#[test]
fn constants_are_told_in_words() {
    for (name, value, words) in [
        ("A_BYTES_MAX", "64 * 1024", "64 KiB"),
        ("A_BYTES_MAX", "7168", "7 KiB"),
        ("A_BYTES_MAX", "1000", "1,000 bytes"),
        ("A_MAX", "65_536", "65,536"),
        ("A_MAX", "Duration::from_secs(600)", "10 min"),
        ("A_MAX", "SignedDuration::from_mins(5)", "5 min"),
        ("PATIENCE", "Duration::from_secs(1)", "1 s"),
        ("A_SECONDS_MAX", "43_200", "43,200 s"),
    ] {
        assert_eq!(in_words(name, value), words);
    }
}
