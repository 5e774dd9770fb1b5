//! The admin port: metrics that a real parser reads, health that notices a stalled shard, a page that a real browser
//! runs, and bytes from people who mean no good.

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::client::encode;
use support::stall::Stall;
use support::*;

/// A server with an admin port, which it lets nobody else have.
struct Watched {
    server: Server,
    admin: u16,
}

impl Watched {
    fn start(shards: usize) -> Watched {
        let admin = free_port();
        let launch = Launch::new(shards).args(&["--admin-port", &admin.to_string()]);
        Watched { server: launch.start(), admin }
    }

    fn connect(&self) -> TcpStream {
        let stream =
            TcpStream::connect(("127.0.0.1", self.admin)).expect("connect to the admin port");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        stream
    }

    /// Status code, head and body.
    #[track_caller]
    fn ask(&self, request: &str) -> (u16, String, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("send a request");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("read the response");
        let text = String::from_utf8(bytes).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text}"));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
        (code, head.to_owned(), body.to_owned())
    }

    #[track_caller]
    fn get(&self, path: &str) -> (u16, String) {
        let (code, _, body) = self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        (code, body)
    }

    /// Every sample, by `name{labels}`, as Prometheus's own parser reads them.
    #[track_caller]
    fn scrape(&self) -> BTreeMap<String, f64> {
        let (code, body) = self.get("/metrics");
        assert_eq!(code, 200, "{body}");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/scrape.py");
        let mut parser =
            Command::new(python_with("prometheus_client", "python3-prometheus-client"))
                .arg(script)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("run the parser");
        parser.stdin.take().expect("its input").write_all(body.as_bytes()).expect("feed it");
        let output = parser.wait_with_output().expect("wait for the parser");
        assert!(output.status.success(), "the parser refuses:\n{body}");
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines()
            .map(|line| {
                let mut parts = line.split('\t');
                let mut next = || parts.next().expect("three parts");
                let (name, labels, value) = (next(), next(), next());
                let labels =
                    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
                (format!("{name}{labels}"), value.parse().expect("a number"))
            })
            .collect()
    }
}

fn each_watched(body: impl Fn(&Watched)) {
    for &shards in shard_counts() {
        eprintln!("--- with {shards} shard(s)");
        body(&Watched::start(shards));
    }
}

fn is_ours() -> bool {
    // The admin port is ours: there is nothing to compare it with.
    reference().is_none()
}

#[test]
fn metrics_are_what_info_says() {
    if !is_ours() {
        return;
    }
    each_watched(|watched| {
        let mut c = watched.server.client();
        for i in 0..100 {
            c.check(&format!("SET key:{i} v"), ok());
        }
        c.check("SELECT 3", ok());
        c.check("SET expiring v EX 1000", ok());
        c.check("GET none", nil());
        c.check("GET expiring", bulk("v"));
        assert!(c.run("GET too many words").is_error());
        let first = watched.scrape();
        let number =
            |name: &str| *first.get(name).unwrap_or_else(|| panic!("no {name}: {first:#?}"));
        assert_eq!(number("redis_up"), 1.0);
        assert_eq!(number("redis_connected_clients"), 1.0);
        assert_eq!(number("redis_db_keys{db=db0}"), 100.0);
        assert_eq!(number("redis_db_keys_expiring{db=db3}"), 1.0);
        assert_eq!(number("redis_commands_total{cmd=set}"), 101.0);
        assert_eq!(number("redis_keyspace_hits_total"), 1.0);
        assert_eq!(number("redis_keyspace_misses_total"), 1.0);
        assert_eq!(number("redis_errors_total{err=ERR}"), 1.0);
        assert_eq!(number("redshard_shards"), watched.server_shards() as f64);
        let sum = |metric: &str| -> f64 {
            let of = first.iter().filter(|(name, _)| name.starts_with(&format!("{metric}{{")));
            of.map(|(_, value)| value).sum()
        };
        assert_eq!(sum("redshard_shard_keys"), 101.0);
        assert_eq!(sum("redshard_shard_commands_total"), number("redis_commands_processed_total"));
        let info = c.run("INFO everything").text();
        let field = |name: &str| -> f64 {
            let line = info.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
            line.and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| panic!("no {name}"))
        };
        assert_eq!(number("redis_config_maxclients"), field("maxclients"));
        assert_eq!(number("redis_memory_max_bytes"), field("maxmemory"));
        assert!(number("redis_memory_used_rss_bytes") > 1e6);

        // Counters only grow.
        let second = watched.scrape();
        for (name, before) in first.iter().filter(|(name, _)| name.contains("_total")) {
            let after = second.get(name).unwrap_or_else(|| panic!("{name} is gone"));
            assert!(after >= before, "{name} fell from {before} to {after}");
        }
        assert!(second["redis_net_input_bytes_total"] > first["redis_net_input_bytes_total"]);
    });
}

impl Watched {
    fn server_shards(&self) -> usize {
        let info = self.server.client().run("INFO server").text();
        let line = info.lines().find_map(|line| line.strip_prefix("shards:")).expect("shards");
        line.trim().parse().expect("a number")
    }
}

#[test]
fn http_as_it_is_spoken() {
    if !is_ours() {
        return;
    }
    let watched = Watched::start(2);
    let (code, head, body) = watched.ask("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(code, 200);
    assert!(head.contains("text/html"), "{head}");
    assert!(head.contains("default-src 'none'"), "{head}");
    // It works where there is no other network.
    let outside = body.replace("http://www.w3.org/2000/svg", "");
    assert!(
        !outside.contains("http:") && !outside.contains("https:"),
        "the page loads from elsewhere"
    );
    let (code, head, body) = watched.ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((code, body.as_str()), (200, ""));
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert_eq!(watched.get("/health?verbose=1"), (200, "ok\n".to_owned()));
    assert_eq!(watched.get("/favicon.ico").0, 404);
    assert_eq!(watched.get("/../../etc/passwd").0, 404);
    let (code, head, _) = watched.ask("POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(code, 405);
    assert!(head.contains("Allow: GET, HEAD"), "{head}");
    assert_eq!(watched.ask("PING\r\n\r\n").0, 400);
    assert_eq!(watched.ask(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000))).0, 431);
}

#[test]
fn off_unless_asked_for_and_only_where_told() {
    if !is_ours() {
        return;
    }
    let watched = Watched::start(1);
    assert!(TcpStream::connect(("127.0.0.2", watched.admin)).is_err(), "listens on more than told");
    // A port that is taken ends the start, and says which.
    let (dir, log) = (TempDir::new(), watched.server.dir().join("second.log"));
    let port = watched.admin.to_string();
    let mut second =
        Launch::new(1).args(&["--admin-port", &port]).spawn(free_port(), dir.path(), &log);
    assert_eq!(wait_exit(&mut second).code(), Some(1));
    let said = std::fs::read_to_string(&log).expect("read its words");
    assert!(
        said.contains(&format!("Failed listening on port {port} (admin), aborting.")),
        "{said}"
    );
    let plain = Server::start(1);
    plain.client().check("CONFIG GET admin-port", bulks(&["admin-port", "0"]));
    assert!(!plain.log().contains("http://"), "{}", plain.log());
}

#[test]
fn health_names_the_shard_that_stalls() {
    if !is_ours() {
        return;
    }
    for &shards in shard_counts() {
        let watched = Watched::start(shards);
        // A shard that has not begun its first turn is said to be unhealthy, too.
        wait_until("every shard turns", || watched.get("/health") == (200, "ok\n".to_owned()));
        let stall = Stall::begin(&watched.server, shards, Duration::from_secs(4));
        let wanted = format!("shard {} has not turned for ", stall.shard);
        wait_until("the stall is noticed", || {
            let (code, body) = watched.get("/health");
            assert!((code == 200) == (body == "ok\n"), "{code} {body}");
            code == 503 && body.starts_with(&wanted) && body.ends_with(" s, running LCS\n")
        });
        // The other numbers are still told.
        assert_eq!(watched.get("/metrics").0, 200);
        stall.end();
        wait_until("it is over", || watched.get("/health").0 == 200);
    }
}

/// Bytes that the server has allocated.
fn used_memory(c: &mut Client) -> u64 {
    let info = c.run("INFO memory").text().to_owned();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.and_then(|number| number.trim().parse().ok()).expect("used_memory is a number")
}

/// Whatever is sent, nothing grows, and the next one is served, by this port and by the server's.
#[test]
fn hostile_bytes_hurt_nobody() {
    if !is_ours() {
        return;
    }
    let watched = Watched::start(2);
    let mut c = watched.server.client();
    // What is allocated, not what is resident: that comes in huge pages.
    let before = used_memory(&mut c);
    // Many more connections than it keeps, none of which ever gets to the end of its request.
    let mut slow: Vec<TcpStream> = Vec::new();
    for i in 0..300 {
        let mut stream = watched.connect();
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
        slow.push(stream);
        if i % 50 == 0 {
            assert_eq!(watched.get("/health").0, 200, "after {i} connections");
        }
    }
    for stream in &mut slow {
        // Some have been closed, and that is fine.
        let _ = stream.write_all(&[b'a'; 4096]);
    }
    assert_eq!(watched.get("/health").0, 200);
    // Senders that never read, and readers that never end.
    let deaf: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = watched.connect();
            stream.set_write_timeout(Some(Duration::from_millis(50))).expect("set a timeout");
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
            for _ in 0..50 {
                if stream.write_all(&[0; 65_536]).is_err() {
                    break;
                }
            }
            stream
        })
        .collect();
    assert_eq!(watched.get("/health").0, 200);
    // Random bytes, and requests cut and twisted.
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..300 {
        let mut bytes = b"GET /metrics?a=b HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n".to_vec();
        for _ in 0..=random() % 8 {
            let at = random() as usize % bytes.len();
            bytes[at] = random() as u8;
        }
        if round % 3 == 0 {
            bytes = (0..random() % 600).map(|_| random() as u8).collect();
        }
        let mut stream = watched.connect();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{bytes:?}: {answer:?}");
    }
    assert_eq!(watched.get("/health").0, 200);
    c.check("PING", simple("PONG"));
    let grown = used_memory(&mut c).saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more");
    drop((slow, deaf));
}

/// The page, run by a real browser while the server works: what it shows is looked up in the document that its script
/// has made.
#[test]
fn the_page_in_a_browser() {
    if !is_ours() {
        return;
    }
    let browser = tool("chromium", "chromium");
    for shards in [1, 2] {
        let watched = Watched::start(shards);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut c = watched.server.client();
                let batch: Vec<u8> = (0..64)
                    .flat_map(|i| encode(&[b"SET", format!("key:{i}").as_bytes(), b"value"]))
                    .collect();
                while !stop.load(Ordering::Relaxed) {
                    c.send_raw(&batch);
                    (0..64).for_each(|_| assert_eq!(c.read_reply(), ok()));
                }
            });
            wait_until("there is load", || {
                watched.get("/metrics").1.contains("redis_commands_total{cmd=\"set\"}")
            });
            // The browser's clock runs ahead while it has nothing to wait for: so many seconds of it are a few of ours.
            let page =
                dump(&browser, watched.admin, &["--dump-dom", "--virtual-time-budget=300000"]);
            stop.store(true, Ordering::Relaxed);

            let text = |id: &str| -> String {
                let start =
                    page.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id}: {page}"));
                let rest = &page[start..];
                let rest = &rest[rest.find('>').expect("an end of the tag") + 1..];
                rest[..rest.find('<').expect("a next tag")].to_owned()
            };
            assert_eq!(text("state"), "healthy");
            assert!(text("about").contains(&format!("port {}", watched.server.port())), "{page}");
            let ops = text("ops");
            let shown = ops.trim_end_matches(['k', 'M']).replace(',', "");
            assert!(shown.parse::<f64>().is_ok_and(|ops| ops > 0.0), "{ops:?} commands/s");
            assert!(text("latency").ends_with("s"), "{}", text("latency"));
            assert!(text("memory").ends_with("iB"), "{}", text("memory"));
            assert!(text("busy").ends_with(" %"), "{}", text("busy"));
            assert_eq!(text("role"), "primary");
            // Charts have lines with points, and tables have rows.
            for (chart, lines) in [("ops", 1), ("latency", 1), ("memory", 2), ("busy", shards)] {
                let svg = &page[page.find(&format!("id=\"chart-{chart}\"")).expect("a chart")..];
                let svg = &svg[..svg.find("</svg>").expect("its end")];
                assert_eq!(svg.matches("class=\"line\"").count(), lines, "{chart}: {svg}");
                assert!(svg.matches('L').count() >= 2, "{chart} has no points: {svg}");
                assert!(!svg.contains("NaN"), "{chart}: {svg}");
            }
            let table = |id: &str| {
                let table = &page[page.find(&format!("id=\"{id}\"")).expect("a table")..];
                table[table.find("<tbody>").expect("a body")
                    ..table.find("</table>").expect("its end")]
                    .to_owned()
            };
            assert_eq!(table("shards").matches("<tr>").count(), shards);
            assert!(table("commands").contains("<td>set</td>"), "{}", table("commands"));
        });
    }
}

/// The numbers of a column of `/history`.
fn column(history: &str, name: &str) -> Vec<f64> {
    let head = format!("\"{name}\":[");
    let start = history.find(&head).unwrap_or_else(|| panic!("no {name}: {history}")) + head.len();
    let rest = &history[start..];
    let numbers = rest[..rest.find(']').expect("an end of the column")].split(',');
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// Who opens the page after an incident sees it: the server has kept what the charts draw.
#[test]
fn the_page_begins_with_the_past() {
    if !is_ours() {
        return;
    }
    let browser = tool("chromium", "chromium");
    let watched = Watched::start(2);
    let past = || {
        let (code, body) = watched.get("/history");
        assert_eq!(code, 200, "{body}");
        body
    };
    let worked = |history: &str| {
        let rates = column(history, "commands");
        rates.iter().filter(|rate| **rate > 0.0).count()
    };
    let mut c = watched.server.client();
    wait_until("load for three points", || {
        (0..100).for_each(|i| c.check(&format!("SET key:{i} v"), ok()));
        worked(&past()) >= 3
    });
    wait_until("a point without load", || {
        column(&past(), "commands").last().is_some_and(|rate| *rate == 0.0)
    });
    let history = past();
    assert!(worked(&history) >= 3, "{history}");
    let points = column(&history, "at").len();
    for name in ["commands", "used", "resident"] {
        assert_eq!(column(&history, name).len(), points, "{name}: {history}");
    }
    assert!(column(&history, "command").iter().any(|seconds| *seconds > 0.0), "{history}");
    assert!(column(&history, "used").iter().all(|bytes| *bytes > 0.0), "{history}");
    let busy = history.split("\"busy\":").nth(1).expect("shards");
    assert_eq!(busy.matches('[').count(), 1 + 2, "{history}");

    // A browser that looks once, before it can have seen a second sample: its charts have the load that was before it came.
    let page = dump(&browser, watched.admin, &["--dump-dom", "--virtual-time-budget=500"]);
    let svg = &page[page.find("id=\"chart-ops\"").expect("a chart")..];
    let svg = &svg[..svg.find("</svg>").expect("its end")];
    assert!(svg.matches('L').count() >= 3, "no past: {svg}");
}

#[track_caller]
fn dump(browser: &Path, port: u16, what: &[&str]) -> String {
    let profile = TempDir::new();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--no-first-run", "--window-size=1180,1250"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(what)
        .arg(format!("http://127.0.0.1:{port}/"))
        .stdin(Stdio::null())
        .output()
        .expect("run the browser");
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{complained}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A scrape takes milliseconds, whatever the load, and is made of what was published: it asks no shard anything.
#[test]
fn a_scrape_does_not_wait_for_a_stalled_shard() {
    if !is_ours() {
        return;
    }
    let watched = Watched::start(2);
    let stall = Stall::begin(&watched.server, 2, Duration::from_secs(3));
    let began = Instant::now();
    assert_eq!(watched.get("/metrics").0, 200);
    let took = began.elapsed();
    assert!(!stall.is_over(), "the stall was too short to tell");
    assert!(took < Duration::from_secs(2), "{took:?}");
    stall.end();
}
