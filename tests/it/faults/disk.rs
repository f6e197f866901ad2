//! Disks that take nothing.

use reqwest::Method;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{Day, Mount, OWN, OneSocket, WARM, fill, kill, own, stop, warnings};
use crate::support::eventually;
use crate::support::npm::{publish, tarball, version};

const SHORT: &str = "The disk is full";
const FAILED: &str = "The disk did not take a file";
const AGAIN: &str = "again; new";

/// Says that a row could not be tried.
fn not_allowed() {
    println!("not tried: this user may not mount");
}

#[tokio::test(flavor = "multi_thread")]
async fn full() {
    let day = Day::new("min_free = \"1MiB\"\n").await;
    let Some(_mount) = Mount::new(&day.data(), "size=24m") else {
        return not_allowed();
    };
    let served = day.begin().await;
    let filled = fill(&day.data());
    day.has_what_it_had(&served).await;
    day.passes_on(&served, "cold").await;
    let refused = day.put(&served, "late").await.expect(503);
    assert!(
        refused.text().contains("cache.min_free"),
        "{}",
        refused.text()
    );
    let ready = day.get(&served, "/-/ready").await.expect(200).text();
    assert!(ready.contains("nothing new is kept"), "{ready}");
    let metrics = day.get(&served, "/-/metrics").await.text();
    assert!(metrics.contains("larder_not_keeping 1\n"), "{metrics}");
    std::fs::remove_file(filled).unwrap();
    day.passes_on(&served, "colder").await;
    day.put(&served, "late").await.expect(201);
    assert_eq!(day.get(&served, "/-/ready").await.text(), "ready\n");
    let log = stop(served).await;
    assert_eq!(warnings(&log, SHORT).len(), 1, "{log}");
    assert_eq!(warnings(&log, "The disk has room again").len(), 1, "{log}");
    assert!(!log.contains("backtrace"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nearly_full() {
    let day = Day::new("min_free = \"1MiB\"\n").await;
    let Some(_mount) = Mount::new(&day.data(), "size=24m") else {
        return not_allowed();
    };
    let served = day.begin().await;
    // Room for a document, and not for all that one of unknown length might become.
    let filled = std::fs::File::options()
        .write(true)
        .open(fill(&day.data()))
        .unwrap();
    let length = filled.metadata().unwrap().len();
    filled.set_len(length - (4 << 20)).unwrap();
    for name in ["cold", "colder", "coldest"] {
        day.passes_on(&served, name).await;
    }
    stop(served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_at_the_start() {
    for is_killed in [false, true] {
        let day = Day::new("min_free = 0\n").await;
        let Some(_mount) = Mount::new(&day.data(), "size=24m") else {
            return not_allowed();
        };
        let served = day.begin().await;
        let reserve = day.at("larder.reserve");
        eventually("room is held back", async || reserve.exists().then_some(())).await;
        if is_killed {
            kill(served).await;
        } else {
            stop(served).await;
        }
        let filled = fill(&day.data());
        let served = day.setup.serve().await;
        day.has_what_it_had(&served).await;
        std::fs::remove_file(filled).unwrap();
        day.put(&served, "late").await.expect(201);
        stop(served).await;
        // `gc` starts as well.
        fill(&day.data());
        let output = day.setup.run(&["gc"]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() || said.contains("the disk is full"),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn below_min_free() {
    let day = Day::new("min_free = \"100TiB\"\n").await;
    for index in 0..8 {
        let next = format!("chain-{}", index + 1);
        let dependencies = [(next.as_str(), "*")];
        publish(
            &day.upstream,
            &format!("chain-{index}"),
            &[version("1.0.0", &dependencies)],
        );
    }
    let text = std::fs::read_to_string(day.setup.at("larder.toml")).unwrap();
    day.setup
        .configure(&text.replace("enabled = false", "enabled = true"));
    let served = day.setup.serve().await;
    for index in 0..8 {
        let path = format!("/npm/public/chain-{index}");
        day.get(&served, &path).await.expect(200);
    }
    day.put(&served, "acme").await.expect(503);
    let log = stop(served).await;
    // Each is asked for when the client asks, and not before.
    let asked = day.upstream.seen();
    let asked = asked.iter().filter(|it| it.path.contains("chain-"));
    assert_eq!(asked.count(), 8);
    assert_eq!(warnings(&log, SHORT).len(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only() {
    let day = Day::new("min_free = 0\n").await;
    let served = day.begin().await;
    let Some(mount) = Mount::over(&day.data()) else {
        return not_allowed();
    };
    mount.remount("remount,ro,bind").await;
    day.has_what_it_had(&served).await;
    day.passes_on(&served, "cold").await;
    let refused = day.put(&served, "late").await;
    assert!(refused.status >= 500, "{refused:?}");
    mount.remount("remount,rw,bind").await;
    drop(mount);
    day.passes_on(&served, "coldest").await;
    let late = day.put(&served, "late").await;
    let log = stop(served).await;
    assert_eq!(late.status, 201, "{log}");
    assert_eq!(warnings(&log, FAILED).len(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_inodes() {
    let day = Day::new("min_free = 0\n").await;
    let Some(_mount) = Mount::new(&day.data(), "size=64m,nr_inodes=200") else {
        return not_allowed();
    };
    let served = day.begin().await;
    let folder = day.at("filled");
    std::fs::create_dir(&folder).unwrap();
    let mut names = 0..;
    while std::fs::File::create(folder.join(names.next().unwrap().to_string())).is_ok() {}
    day.has_what_it_had(&served).await;
    day.passes_on(&served, "cold").await;
    let refused = day.put(&served, "late").await;
    assert!(refused.status >= 500, "{refused:?}");
    std::fs::remove_dir_all(folder).unwrap();
    day.put(&served, "late").await.expect(201);
    let log = stop(served).await;
    assert_eq!(warnings(&log, FAILED).len(), 1, "{log}");
    assert_eq!(warnings(&log, AGAIN).len(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_descriptors() {
    let day = Day::new("min_free = 0\n").await;
    let served = day.begin().await;
    let pid = Pid::from_raw(served.child.id().unwrap().try_into().unwrap());
    let bound = |current| {
        let limit = Rlimit {
            current: Some(current),
            maximum: Some(4096),
        };
        prlimit(pid, Resource::Nofile, limit).unwrap()
    };
    day.has_what_it_had(&served).await;
    let mut socket = OneSocket::to(&served).await;
    socket.get(WARM).await.expect(200);
    bound(3);
    // By a socket that is open, and from memory.
    assert_eq!(socket.get(OWN).await.expect(200).body, own("acme"));
    let warm = tarball("warm", "1.0.0", &[]);
    assert_eq!(socket.get(WARM).await.expect(200).body, warm);
    let cold = socket.get("/npm/team/cold/-/cold-1.0.0.tgz").await;
    assert!(cold.status >= 500 || cold.body.len() > 100, "{cold:?}");
    bound(4096);
    day.passes_on(&served, "colder").await;
    day.put(&served, "late").await.expect(201);
    day.has_what_it_had(&served).await;
    stop(served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_whole_again() {
    let day = Day::new("min_free = 0\n").await;
    let Some(_mount) = Mount::new(&day.data(), "size=24m") else {
        return not_allowed();
    };
    let served = day.begin().await;
    let filled = fill(&day.data());
    // More than there are connections, each with a statement that fails in its middle.
    for number in 0..20 {
        let refused = day.put(&served, &format!("late-{number}")).await;
        assert!(refused.status >= 500, "{refused:?}");
        day.get(&served, &format!("/npm/public/none-{number}"))
            .await;
    }
    std::fs::remove_file(filled).unwrap();
    for number in 0..20 {
        let name = format!("late-{number}");
        day.put(&served, &name).await.expect(201);
        let path = format!("/npm/team/{name}/-/{name}-1.0.0.tgz");
        assert_eq!(day.get(&served, &path).await.expect(200).body, own(&name));
    }
    let head = day.ask(Method::HEAD, &served.url, OWN, None).await;
    assert_eq!(head.status, 200);
    stop(served).await;
}
