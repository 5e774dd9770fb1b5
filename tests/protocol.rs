//! The wire: inline and multibulk requests in any pieces and any size, and what the server says to broken ones.

mod support;

use support::client::encode;
use support::*;

#[test]
fn inline_commands() {
    each_client(|c| {
        c.check_raw(b"PING\r\n", b"+PONG\r\n");
        c.check_raw(b"PING\n", b"+PONG\r\n");
        c.check_raw(b"  ping  \r\n", b"+PONG\r\n");
        c.check_raw(b"SET k v\r\nGET k\r\n", b"+OK\r\n$1\r\nv\r\n");
        c.check_raw(b"SET k \"a b\\x41\\n\\\"\"\r\nGET k\r\n", b"+OK\r\n$6\r\na bA\n\"\r\n");
        c.check_raw(b"SET k 'it\\'s \\n'\r\nGET k\r\n", b"+OK\r\n$7\r\nit's \\n\r\n");
        c.check_raw(b"SET k \"\"\r\nGET k\r\n", b"+OK\r\n$0\r\n\r\n");
        // Pieces that touch are one word.
        c.check_raw(b"ECHO \"a\"b'c d'\r\n", b"$5\r\nabc d\r\n");
        c.check_raw(b"\r\n\n  \r\nPING\r\n", b"+PONG\r\n");
        c.check_raw(b"GET\r\n", b"-ERR wrong number of arguments for 'get' command\r\n");
        c.check_raw(
            b"nope a 'b c'\r\n",
            b"-ERR unknown command 'nope', with args beginning with: 'a' 'b c' \r\n",
        );
        // The two forms may alternate within one connection and one packet.
        c.check_raw(b"PING\r\n*1\r\n$4\r\nPING\r\nECHO x\r\n", b"+PONG\r\n+PONG\r\n$1\r\nx\r\n");
    });
}

#[test]
fn empty_requests_are_ignored() {
    each_client(|c| {
        c.check_raw(b"*0\r\n*1\r\n$4\r\nPING\r\n", b"+PONG\r\n");
        c.check_raw(b"*-1\r\nPING\r\n", b"+PONG\r\n");
        c.check_raw(b"*-10\r\n\r\n*0\r\nPING\r\n", b"+PONG\r\n");
    });
}

#[test]
fn empty_bulks_are_arguments() {
    each_client(|c| {
        c.check_raw(b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$0\r\n\r\n", b"+OK\r\n");
        c.check_raw(b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", b"$0\r\n\r\n");
        c.check_raw(b"*3\r\n$4\r\nMGET\r\n$0\r\n\r\n$1\r\nx\r\n", b"*2\r\n$0\r\n\r\n$-1\r\n");
        c.check_raw(
            b"*1\r\n$0\r\n\r\n",
            b"-ERR unknown command '', with args beginning with: \r\n",
        );
    });
}

/// Every protocol error: the exact text, then the close, with the replies of what came before it intact.
#[test]
fn protocol_errors_word_for_word() {
    let long = |prefix: &str| format!("{prefix}{}", "1".repeat(70 * 1024));
    let cases: Vec<(String, &str)> = vec![
        ("*abc\r\n".into(), "invalid multibulk length"),
        ("*3x\r\n".into(), "invalid multibulk length"),
        ("*\r\n".into(), "invalid multibulk length"),
        ("* 1\r\n".into(), "invalid multibulk length"),
        ("*+1\r\n$4\r\nPING\r\n".into(), "invalid multibulk length"),
        ("*01\r\n$4\r\nPING\r\n".into(), "invalid multibulk length"),
        ("*1\n$4\nPING\r\n".into(), "invalid multibulk length"),
        ("*1\rX$4\r\nPING\r\n".into(), "invalid CRLF in request"),
        ("*1\r\n$4\r\nPINGxx*1\r\n".into(), "invalid CRLF in request"),
        ("*1\r\n$04\r\nPING\r\n".into(), "invalid bulk length"),
        ("*2147483648\r\n".into(), "invalid multibulk length"),
        ("*99999999999999999999\r\n".into(), "invalid multibulk length"),
        ("*1\r\nfoo\r\n".into(), "expected '$', got 'f'"),
        ("*1\r\n:1\r\n".into(), "expected '$', got ':'"),
        ("*1\r\n\r\n".into(), "expected '$', got '\r'"),
        ("*2\r\n$3\r\nGET\r\n*1\r\n".into(), "expected '$', got '*'"),
        ("*1\r\n$abc\r\n".into(), "invalid bulk length"),
        ("*1\r\n$-1\r\n".into(), "invalid bulk length"),
        ("*1\r\n$\r\n".into(), "invalid bulk length"),
        ("*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000000\r\n".into(), "invalid bulk length"),
        ("*1\r\n$536870913\r\n".into(), "invalid bulk length"),
        ("*1\r\n$9223372036854775808\r\n".into(), "invalid bulk length"),
        ("GET \"a\r\n".into(), "unbalanced quotes in request"),
        ("GET 'a\r\n".into(), "unbalanced quotes in request"),
        (long("*"), "too big mbulk count string"),
        (long("*1\r\n$"), "too big bulk count string"),
        (long("GET "), "too big inline request"),
    ];
    each_shard_count(|server| {
        for (request, text) in &cases {
            // Redis blanks line ends within an error, or the reply would fall apart.
            let text = text.replace(['\r', '\n'], " ");
            for before in
                ["", "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"]
            {
                let mut c = server.client();
                c.send_raw_lossy(format!("{before}{request}").as_bytes());
                if !before.is_empty() {
                    c.expect(ok());
                    c.expect(bulk("v"));
                }
                let expected = format!("-ERR Protocol error: {text}\r\n");
                let shown = &request[..request.len().min(40)];
                assert_eq!(String::from_utf8_lossy(&c.read_to_close()), expected, "for {shown:?}");
            }
        }
        server.client().check("PING", simple("PONG"));
    });
}

#[test]
fn nothing_after_a_protocol_error_is_run() {
    each_shard_count(|server| {
        let mut c = server.client();
        c.send_raw(b"SET before 1\r\n*x\r\nSET after 1\r\n");
        let said = c.read_to_close();
        assert_eq!(
            said.escape_ascii().to_string(),
            "+OK\\r\\n-ERR Protocol error: invalid multibulk length\\r\\n"
        );
        server.client().check("MGET before after", array([bulk("1"), nil()]));
    });
}

/// Browsers can be talked into posting to a Redis port; the words they cannot avoid end the conversation.
#[test]
fn http_is_hung_up_on() {
    each_shard_count(|server| {
        for request in ["POST / HTTP/1.1\r\n", "host: localhost\r\n", "Host: localhost\r\n"] {
            let mut c = server.client();
            c.send_raw_lossy(format!("{request}SET hacked 1\r\n").as_bytes());
            c.expect_closed();
        }
        server.client().check("EXISTS hacked", int(0));
    });
}

/// A PING in front of the first piece tells when the server has seen that piece, so the split is real every time.
#[test]
fn requests_may_be_split_anywhere() {
    each_client(|c| {
        let ping = encode(&[b"PING"]);
        let requests: [(&[u8], &[u8]); 4] = [
            (b"*3\r\n$3\r\nSET\r\n$5\r\nkey:1\r\n$12\r\nhello\r\nworld\r\n", b"+OK\r\n"),
            (
                b"*2\r\n$3\r\nGET\r\n$5\r\nkey:1\r\n*1\r\n$4\r\nPING\r\n",
                b"$12\r\nhello\r\nworld\r\n+PONG\r\n",
            ),
            (b"SET \"a b\" 'c d'\r\nGET \"a b\"\r\n", b"+OK\r\n$3\r\nc d\r\n"),
            (
                b"*0\r\n\r\n*4\r\n$4\r\nMGET\r\n$5\r\nkey:1\r\n$0\r\n\r\n$3\r\na b\r\n",
                b"*3\r\n$12\r\nhello\r\nworld\r\n$-1\r\n$3\r\nc d\r\n",
            ),
        ];
        for (request, reply) in requests {
            for at in 1..request.len() {
                let (first, second) = request.split_at(at);
                c.send_raw(&[&ping, first].concat());
                c.expect(simple("PONG"));
                c.send_raw(second);
                c.expect_bytes(reply);
            }
        }
    });
}

#[test]
fn requests_may_come_byte_by_byte() {
    each_client(|c| {
        let request = encode(&[b"MSET", b"a", b"1", b"b", b"", b"c", b"\r\n$3\r\n"]);
        request.iter().for_each(|byte| c.send_raw(&[*byte]));
        c.expect(ok());
        c.check("MGET a b c", bulks(&["1", "", "\r\n$3\r\n"]));
    });
}

#[test]
fn ten_thousand_commands_in_one_pipeline() {
    each_client(|c| {
        let (mut requests, mut expected) = (Vec::new(), Vec::new());
        for i in 0..10_000u32 {
            let (key, value) = (format!("key:{}", i % 1_000), format!("value:{i}"));
            match i % 4 {
                0 => {
                    requests.extend(encode(&[b"SET", key.as_bytes(), value.as_bytes()]));
                    expected.extend_from_slice(b"+OK\r\n");
                    requests.extend(encode(&[b"GET", key.as_bytes()]));
                    expected.extend(format!("${}\r\n{value}\r\n", value.len()).bytes());
                }
                1 => {
                    requests.extend(encode(&[b"INCR", b"counter"]));
                    expected.extend(format!(":{}\r\n", i / 4 + 1).bytes());
                }
                2 => {
                    requests.extend(encode(&[
                        b"MSET",
                        b"x",
                        value.as_bytes(),
                        b"y",
                        value.as_bytes(),
                    ]));
                    expected.extend_from_slice(b"+OK\r\n");
                    requests.extend(encode(&[b"MGET", b"x", b"y"]));
                    let one = format!("${}\r\n{value}\r\n", value.len());
                    expected.extend(format!("*2\r\n{one}{one}").bytes());
                }
                _ => {
                    requests.extend(encode(&[b"PING"]));
                    expected.extend_from_slice(b"+PONG\r\n");
                }
            }
        }
        let mut socket = c.tcp();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::io::Write::write_all(&mut socket, &requests).expect("send the pipeline")
            });
            c.expect_bytes(&expected);
        });
    });
}

/// Everything is asked before anything is read: the replies wait somewhere, and none is lost.
#[test]
fn large_replies_may_be_collected_late() {
    each_client(|c| {
        let value = vec![b'x'; 1_000_000];
        for i in 0..8u8 {
            assert_eq!(c.cmd_bytes(&[b"SET", &[b'k', i], &value]), ok());
        }
        let requests: Vec<u8> =
            (0..100u8).flat_map(|i| encode(&[b"GET", &[b'k', i % 8]])).collect();
        c.send_raw(&requests);
        for _ in 0..100 {
            let reply = c.read_reply();
            assert!(reply.bytes() == value, "{reply:?}");
        }
        c.check("PING", simple("PONG"));
    });
}

#[test]
fn bulks_of_tens_of_megabytes() {
    each_client(|c| {
        for size in [16 * 1024 - 1, 16 * 1024, 64 * 1024 + 1, 1 << 20, 48 << 20] {
            // Not periodic in any power of two, so that a misplaced piece shows.
            let value: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            assert_eq!(c.cmd_bytes(&[b"SET", b"big", &value]), ok());
            c.check("STRLEN big", int(size as i64));
            assert!(
                c.cmd_bytes(&[b"GET", b"big"]).bytes() == value,
                "{size} bytes came back changed"
            );
            c.check("GETRANGE big -3 -1", bulk(&value[size - 3..]));
        }
        // A big key, a big unknown command and a big echo take the same road.
        let name = vec![b'k'; 3 << 20];
        assert_eq!(c.cmd_bytes(&[b"SET", &name, b"v"]), ok());
        assert_eq!(c.cmd_bytes(&[b"EXISTS", &name]), int(1));
        assert!(c.cmd_bytes(&[b"ECHO", &name]).bytes() == name);
        assert!(c.cmd_bytes(&[&name]).is_error());
        c.check("PING", simple("PONG"));
    });
}

#[test]
fn a_hundred_thousand_arguments() {
    each_client(|c| {
        const KEYS: usize = 100_000;
        let names: Vec<Vec<u8>> = (0..KEYS).map(|i| format!("key:{i}").into_bytes()).collect();
        let mut request: Vec<&[u8]> = vec![b"MSET"];
        names.iter().for_each(|name| request.extend([name.as_slice(), &name[4..]]));
        assert_eq!(c.cmd_bytes(&request), ok());
        c.check("DBSIZE", int(KEYS as i64));
        let mut request: Vec<&[u8]> = vec![b"MGET"];
        request.extend(names.iter().map(Vec::as_slice));
        let reply = c.cmd_bytes(&request);
        assert_eq!(reply.items().len(), KEYS);
        assert!(reply.items().iter().zip(&names).all(|(value, name)| value.bytes() == &name[4..]));
        request[0] = b"EXISTS";
        assert_eq!(c.cmd_bytes(&request), int(KEYS as i64));
        request[0] = b"DEL";
        assert_eq!(c.cmd_bytes(&request), int(KEYS as i64));
        c.check("DBSIZE", int(0));
    });
}

#[test]
fn a_strangers_requests_are_kept_small() {
    for &shards in shard_counts() {
        let server = Launch::new(shards).args(&["--requirepass", "s3cret"]).start();
        let many = "*11\r\n";
        let long = "*1\r\n$16385\r\n";
        for (request, text) in
            [(many, "unauthenticated multibulk length"), (long, "unauthenticated bulk length")]
        {
            let mut c = server.client();
            c.send_raw(request.as_bytes());
            assert_eq!(
                String::from_utf8_lossy(&c.read_to_close()),
                format!("-ERR Protocol error: {text}\r\n")
            );
        }
        let mut c = server.client();
        c.check("AUTH s3cret", ok());
        c.check("MGET a b c d e f g h i j k l", Value::Array(vec![nil(); 12]));
        assert_eq!(c.cmd_bytes(&[b"STRLEN", &[b'x'; 20_000]]), int(0));
        // The limits themselves are still allowed.
        let mut c = server.client();
        c.send_raw(&encode(&[&[b'x'; 16384]]));
        c.expect(error("NOAUTH Authentication required."));
        c.send_raw(&encode(&[
            b"AUTH".as_slice(),
            b"1",
            b"2",
            b"3",
            b"4",
            b"5",
            b"6",
            b"7",
            b"8",
            b"9",
        ]));
        assert!(c.read_reply().is_error());
    }
}

/// Announcing costs nothing, so it must buy nothing: memory follows what has arrived, not what was promised.
#[test]
fn announced_sizes_are_not_believed() {
    each_shard_count(|server| {
        let mut c = server.client();
        c.check("PING", simple("PONG"));
        let before = server.rss();
        let mut promises = Vec::new();
        for request in [
            "*1000000\r\n",
            "*3\r\n$3\r\nSET\r\n$536870912\r\n",
            "*2147483647\r\n$3\r\nDEL\r\n$500000000\r\nabc",
        ] {
            for _ in 0..20 {
                let mut liar = server.client();
                liar.send_raw(b"PING\r\n");
                liar.send_raw(request.as_bytes());
                liar.expect(simple("PONG"));
                promises.push(liar);
            }
        }
        (0..50).for_each(|_| c.check("PING", simple("PONG")));
        let grown = server.rss().saturating_sub(before);
        assert!(grown < 256 << 20, "60 announcements took {grown} bytes");
    });
}

#[test]
fn clients_may_leave_in_the_middle() {
    each_shard_count(|server| {
        let mut c = server.client();
        c.check("SET k v", ok());
        let big = [b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$30000000\r\n".to_vec(), vec![b'x'; 5_000_000]]
            .concat();
        let requests: [&[u8]; 8] = [
            b"*",
            b"*3\r\n",
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nab",
            b"*1\r\n$4\r\nPING",
            b"SET k",
            b"*2\r\n$",
            &big,
            b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        ];
        for request in requests {
            for _ in 0..10 {
                server.client().send_raw_lossy(request);
            }
        }
        wait_until("everybody else is gone", || {
            c.run("INFO clients").text().contains("connected_clients:1\r\n")
        });
        c.check("GET k", bulk("v"));
    });
}

#[test]
fn what_was_sent_before_the_end_is_answered() {
    each_shard_count(|server| {
        let mut c = server.client();
        c.send_raw(b"SET a 1\r\nMSET b 2 c 3\r\nMGET a b c\r\nQUIT\r\nSET late 1\r\n");
        let said = c.read_to_close();
        assert_eq!(
            said.escape_ascii().to_string(),
            "+OK\\r\\n+OK\\r\\n*3\\r\\n$1\\r\\n1\\r\\n$1\\r\\n2\\r\\n$1\\r\\n3\\r\\n+OK\\r\\n"
        );
        server.client().check("EXISTS late", int(0));
    });
}
