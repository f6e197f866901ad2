//! Larder, nginx and Varnish, each a process with two worker threads or as near as it comes.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Direct,
    Nginx,
    Varnish,
    Larder,
    /// Larder with the log that it writes by default.
    Logged,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Varnish => "Varnish",
            Self::Larder => "Larder",
            Self::Logged => "Larder with its log",
        }
    }
}

/// A server before one upstream, with an empty cache in a folder of its own.
pub struct Server {
    pub kind: Kind,
    pub address: SocketAddr,
    process: Option<Child>,
    pub folder: PathBuf,
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

impl Server {
    pub fn start(kind: Kind, upstream: SocketAddr, folder: &Path) -> Self {
        let folder = folder.join(kind.name());
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self::start_again(kind, upstream, &folder)
    }

    /// The same in the folder of one that was stopped, with what it kept.
    pub fn start_again(kind: Kind, upstream: SocketAddr, folder: &Path) -> Self {
        let folder = folder.to_owned();
        let address = if kind == Kind::Direct {
            upstream
        } else {
            free_port()
        };
        let command = match kind {
            Kind::Direct => None,
            Kind::Nginx => Some(nginx(&folder, address, upstream)),
            Kind::Varnish => Some(varnish(&folder, address, upstream)),
            Kind::Larder => Some(larder(&folder, address, upstream, "warn")),
            Kind::Logged => Some(larder(&folder, address, upstream, "info")),
        };
        let process = command.map(|mut command| {
            let log = fs::File::create(folder.join("log")).unwrap();
            command
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap_or_else(|error| panic!("{} does not start: {error}", kind.name()))
        });
        let server = Self {
            kind,
            address,
            process,
            folder,
        };
        server.wait();
        server
    }

    fn wait(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(self.address).is_err() {
            assert!(
                Instant::now() < end,
                "{} does not listen: {}",
                self.kind.name(),
                fs::read_to_string(self.folder.join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The registry's address at this server.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, self.root())
    }

    /// The path of the registry's root.
    pub fn root(&self) -> &'static str {
        match self.kind {
            Kind::Larder | Kind::Logged => "/npm/public/",
            _ => "/",
        }
    }

    /// The processes of the server: it and all below it.
    fn processes(&self) -> Vec<u32> {
        let Some(process) = &self.process else {
            return Vec::new();
        };
        let mut found = vec![process.id()];
        let mut at = 0;
        while at < found.len() {
            let path = format!("/proc/{0}/task/{0}/children", found[at]);
            let children = fs::read_to_string(path).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|id| id.parse::<u32>().ok()),
            );
            at += 1;
        }
        found
    }

    /// CPU seconds of the server so far.
    pub fn cpu(&self) -> f64 {
        let ticks: u64 = self
            .processes()
            .iter()
            .filter_map(|id| {
                let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
                let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
                Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
            })
            .sum();
        ticks as f64 / 100.0
    }

    fn memory(&self, field: &str) -> u64 {
        self.processes()
            .iter()
            .filter_map(|id| {
                let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
                let line = status.lines().find_map(|line| line.strip_prefix(field))?;
                line.split_whitespace().next()?.parse::<u64>().ok()
            })
            .sum::<u64>()
            * 1024
    }

    /// The most memory that was resident, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Begins to look for the peak anew.
    pub fn forget_peak(&self) {
        for id in self.processes() {
            let _ = fs::write(format!("/proc/{id}/clear_refs"), "5");
        }
    }

    /// Resident memory now, in bytes.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Their own way to stop takes the workers along.
            let _ = Command::new("kill")
                .arg("-TERM")
                .arg(process.id().to_string())
                .status();
            let _ = process.wait();
        }
    }
}

fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
}

/// Two servers in one: the inner rewrites and compresses once, the outer caches that and serves
/// it by `sendfile`.
fn nginx(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> Command {
    let inner = free_port();
    let place = folder.display();
    let file = folder.join("nginx.conf");
    write(
        &file,
        &format!(
            r#"
daemon off; user root; worker_processes 2; worker_rlimit_nofile 65536;
pid {place}/pid; error_log {place}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 600s; types_hash_max_size 4096;
  client_body_temp_path {place}/t1; proxy_temp_path {place}/t2; fastcgi_temp_path {place}/t3;
  uwsgi_temp_path {place}/t4; scgi_temp_path {place}/t5;
  open_file_cache max=100000 inactive=10m; open_file_cache_valid 10m;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_read_timeout 120s;
  map $http_accept_encoding $coding {{ default ""; "~gzip" "gzip"; }}
  proxy_cache_path {place}/cache levels=1:2 keys_zone=c:64m max_size=40g inactive=1d use_temp_path=off;
  upstream origin {{ server {upstream}; keepalive 64; }}
  upstream inner {{ server {inner}; keepalive 64; }}
  server {{
    listen {inner};
    sub_filter "http://{upstream}/" "http://{address}/"; sub_filter_once off; sub_filter_types *;
    gzip on; gzip_types *; gzip_comp_level 6; gzip_proxied any; gzip_http_version 1.0;
    location / {{ proxy_pass http://origin; proxy_set_header Connection ""; proxy_set_header Accept-Encoding ""; }}
  }}
  server {{
    listen {address} backlog=4096;
    proxy_cache c; proxy_cache_valid 200 1d; proxy_ignore_headers Vary;
    proxy_cache_lock on; proxy_cache_lock_timeout 120s; proxy_cache_lock_age 120s;
    location / {{
      proxy_pass http://inner; proxy_set_header Connection ""; proxy_set_header Accept-Encoding $coding;
      proxy_cache_key "$uri|$coding|$http_accept";
    }}
    location ~ \.(tgz|whl)$ {{ proxy_pass http://origin; proxy_cache_key "$uri"; }}
  }}
}}
"#
        ),
    );
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&file).arg("-p").arg(folder);
    command
}

fn varnish(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> Command {
    let file = folder.join("default.vcl");
    write(
        &file,
        &format!(
            r#"vcl 4.1;
backend default {{ .host = "{}"; .port = "{}"; .first_byte_timeout = 120s; .between_bytes_timeout = 120s; }}
sub vcl_backend_response {{
  set beresp.ttl = 1d;
  if (beresp.http.content-type ~ "json|html") {{ set beresp.do_gzip = true; }}
}}
"#,
            upstream.ip(),
            upstream.port()
        ),
    );
    let mut command = Command::new("varnishd");
    command
        .args([
            "-F",
            "-j",
            "none",
            "-s",
            "malloc,6G",
            "-p",
            "thread_pools=2",
        ])
        .args(["-p", "thread_pool_min=50", "-p", "workspace_client=128k"])
        .arg("-n")
        .arg(folder.join("n"))
        .arg("-a")
        .arg(address.to_string())
        .arg("-f")
        .arg(&file);
    command
}

/// Larder as a user has it, two worker threads on two cores. At `warn` it writes no access line
/// (nginx writes none either).
fn larder(folder: &Path, address: SocketAddr, upstream: SocketAddr, level: &str) -> Command {
    let file = folder.join("larder.toml");
    write(
        &file,
        &format!(
            r#"
listen = "{address}"
data_dir = "{0}"
[log]
level = "{level}"
[[connection]]
name = "npm"
format = "npm"
url = "http://{upstream}/"
[[connection]]
name = "pypi"
format = "pypi"
url = "http://{upstream}/simple/"
[[repository]]
name = "public"
external_connections = ["npm", "pypi"]
"#,
            folder.join("data").display()
        ),
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.arg("serve").arg("--config").arg(&file);
    // What this shell is set to would stand over the file.
    command
        .env_remove("LARDER_DATA_DIR")
        .env_remove("LARDER_CONFIG");
    command
}
