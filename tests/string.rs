//! The string commands, as Valkey 9 answers them.

mod support;

use support::*;

#[test]
fn set_and_get() {
    each_client(|c| {
        c.check("SET k v", ok());
        c.check("GET k", bulk("v"));
        c.check("GET missing", nil());
        c.check("SET k \"\"", ok());
        c.check("GET k", bulk(""));
        c.check("STRLEN k", int(0));
        c.check("SET \"\" \"the empty key\"", ok());
        c.check("GET \"\"", bulk("the empty key"));
        let every_byte: Vec<u8> = (0..=255).collect();
        assert_eq!(c.cmd_bytes(&[b"SET", &every_byte, &every_byte]), ok());
        assert_eq!(c.cmd_bytes(&[b"GET", &every_byte]), bulk(&every_byte));
        c.check("set K lower", ok());
        c.check("GeT k", bulk(""));
        c.check("get K", bulk("lower"));
    });
}

#[test]
fn arity_is_checked_first() {
    each_client(|c| {
        let too_few = [
            ("APPEND k", "append"),
            ("DECR", "decr"),
            ("DECRBY k", "decrby"),
            ("DELIFEQ k", "delifeq"),
            ("GET", "get"),
            ("GETDEL", "getdel"),
            ("GETEX", "getex"),
            ("GETRANGE k 0", "getrange"),
            ("GETSET k", "getset"),
            ("INCR", "incr"),
            ("INCRBY k", "incrby"),
            ("INCRBYFLOAT k", "incrbyfloat"),
            ("LCS a", "lcs"),
            ("MGET", "mget"),
            ("MSET", "mset"),
            ("MSET k", "mset"),
            ("MSETEX 1 k", "msetex"),
            ("MSETNX k", "msetnx"),
            ("PSETEX k 1", "psetex"),
            ("SET k", "set"),
            ("SETEX k 1", "setex"),
            ("SETNX k", "setnx"),
            ("SETRANGE k 1", "setrange"),
            ("STRLEN", "strlen"),
            ("SUBSTR k 1", "substr"),
        ];
        let too_many = [
            ("APPEND k v x", "append"),
            ("GET k k", "get"),
            ("GETDEL k k", "getdel"),
            ("INCR k 1", "incr"),
            ("INCRBY k 1 1", "incrby"),
            ("SETNX k v x", "setnx"),
            ("STRLEN k k", "strlen"),
            ("MSET a 1 b", "mset"),
            ("MSETNX a 1 b", "msetnx"),
        ];
        for (line, name) in too_few.into_iter().chain(too_many) {
            c.check(line, wrong_arity(name));
        }
        c.check("DBSIZE", int(0));
    });
}

#[test]
fn set_nx_xx_and_get() {
    each_client(|c| {
        c.check("SET k 1 XX", nil());
        c.check("GET k", nil());
        c.check("SET k 1 NX", ok());
        c.check("SET k 2 NX", nil());
        c.check("SET k 2 xx", ok());
        c.check("SET k 3 GET", bulk("2"));
        c.check("SET k 4 XX GET", bulk("3"));
        c.check("SET k 5 NX GET", bulk("4"));
        c.check("GET k", bulk("4"));
        c.check("SET fresh 1 NX GET", nil());
        c.check("GET fresh", bulk("1"));
        c.check("SET none 1 XX GET", nil());
        c.check("EXISTS none", int(0));
        c.check("SET fresh2 1 GET", nil());
        c.check("GET fresh2", bulk("1"));
    });
}

#[test]
fn set_ifeq_compares_the_present_value() {
    each_client(|c| {
        c.check("SET k 1 IFEQ 1", nil());
        c.check("EXISTS k", int(0));
        c.check("SET k 1", ok());
        c.check("SET k 2 IFEQ 9", nil());
        c.check("SET k 2 ifeq 1", ok());
        c.check("SET k 3 IFEQ 2 GET", bulk("2"));
        c.check("SET k 4 IFEQ 2 GET", bulk("3"));
        c.check("SET none 4 IFEQ 2 GET", nil());
        c.check("GET k", bulk("3"));
        c.check("SET k 5 IFEQ 3 EX 100", ok());
        c.check_ttl("k", 100);
        c.check("SET k 6 IFEQ", syntax_error());
        c.check("SET k 6 IFEQ 5 NX", syntax_error());
        c.check("SET k 6 XX IFEQ 5", syntax_error());
    });
}

#[test]
fn set_expiry_options() {
    each_client(|c| {
        c.check("SET k v EX 100", ok());
        c.check_ttl("k", 100);
        c.check("SET k v PX 100000", ok());
        let left = c.run("PTTL k").int();
        assert!((90_000..=100_000).contains(&left), "{left}");
        c.check("SET k v EXAT 33177117420", ok());
        c.check("EXPIRETIME k", int(33_177_117_420));
        c.check("SET k v PXAT 33177117420123", ok());
        c.check("PEXPIRETIME k", int(33_177_117_420_123));
        c.check("SET k w KEEPTTL", ok());
        c.check("PEXPIRETIME k", int(33_177_117_420_123));
        c.check("GET k", bulk("w"));
        c.check("SET k v", ok());
        c.check("TTL k", int(-1));
        c.check("SET k v NX EX 100", nil());
        c.check("TTL k", int(-1));
        c.check("SET k v XX EX 100 GET", bulk("v"));
        c.check_ttl("k", 100);
        c.check("SET fresh v KEEPTTL", ok());
        c.check("TTL fresh", int(-1));
    });
}

#[test]
fn set_with_a_moment_in_the_past_deletes() {
    each_client(|c| {
        c.check("SET k v", ok());
        c.check("SET k v EXAT 1", ok());
        c.check("EXISTS k", int(0));
        c.check("SET k v", ok());
        c.check("SET k w PXAT 1 GET", bulk("v"));
        c.check("GET k", nil());
        c.check("DBSIZE", int(0));
    });
}

#[test]
fn set_refuses_bad_options_and_leaves_the_key() {
    each_client(|c| {
        c.check("SET k kept", ok());
        let invalid = error("ERR invalid expire time in 'set' command");
        for option in [
            "EX 0",
            "EX -5",
            "PX 0",
            "EXAT 0",
            "PXAT -1",
            "EX 9223372036854775807",
            "PX 9223372036854775807",
        ] {
            c.check(&format!("SET k v {option}"), invalid.clone());
        }
        for option in [
            "EX",
            "PXAT",
            "FOO",
            "NX XX",
            "EX 10 PX 10",
            "EX 10 KEEPTTL",
            "KEEPTTL EXAT 10",
            "PERSIST",
        ] {
            c.check(&format!("SET k v {option}"), syntax_error());
        }
        for option in ["EX abc", "PX 1.5", "EX \"\"", "EX 9223372036854775808"] {
            c.check(&format!("SET k v {option}"), not_an_integer());
        }
        c.check("GET k", bulk("kept"));
        c.check("TTL k", int(-1));
    });
}

#[test]
fn setex_psetex_setnx_getset() {
    each_client(|c| {
        c.check("SETEX k 100 v", ok());
        c.check_ttl("k", 100);
        c.check("PSETEX k 50000 w", ok());
        assert!((1..=50_000).contains(&c.run("PTTL k").int()));
        c.check("GET k", bulk("w"));
        c.check("SETEX k 0 x", error("ERR invalid expire time in 'setex' command"));
        c.check("SETEX k -1 x", error("ERR invalid expire time in 'setex' command"));
        c.check(
            "SETEX k 9223372036854775807 x",
            error("ERR invalid expire time in 'setex' command"),
        );
        c.check("PSETEX k 0 x", error("ERR invalid expire time in 'psetex' command"));
        c.check("SETEX k abc x", not_an_integer());
        c.check("GETSET k y", bulk("w"));
        c.check("TTL k", int(-1));
        c.check("GETSET none y", nil());
        c.check("GET none", bulk("y"));
        c.check("SETNX k z", int(0));
        c.check("SETNX fresh z", int(1));
        c.check("GET fresh", bulk("z"));
    });
}

#[test]
fn a_key_is_gone_when_its_time_is_up() {
    each_client(|c| {
        c.check("PSETEX k 5 v", ok());
        c.wait_for("GET k", nil());
        c.check("EXISTS k", int(0));
        c.check("SET k w NX", ok());
        c.check("TTL k", int(-1));
        c.check("PSETEX n 5 41", ok());
        c.wait_for("EXISTS n", int(0));
        c.check("INCR n", int(1));
        c.check("TTL n", int(-1));
        c.check("SET x long PX 5", ok());
        c.wait_for("STRLEN x", int(0));
        c.check("APPEND x a", int(1));
    });
}

#[test]
fn getdel_and_getex() {
    each_client(|c| {
        c.check("GETDEL k", nil());
        c.check("SET k v", ok());
        c.check("GETDEL k", bulk("v"));
        c.check("EXISTS k", int(0));
        c.check("GETEX k EX 10", nil());
        c.check("GETEX k EX 0", error("ERR invalid expire time in 'getex' command"));
        c.check("SET k v", ok());
        c.check("GETEX k", bulk("v"));
        c.check("TTL k", int(-1));
        c.check("GETEX k EX 100", bulk("v"));
        c.check_ttl("k", 100);
        c.check("GETEX k", bulk("v"));
        c.check_ttl("k", 100);
        c.check("GETEX k persist", bulk("v"));
        c.check("TTL k", int(-1));
        c.check("GETEX k PX 100000", bulk("v"));
        assert!((1..=100_000).contains(&c.run("PTTL k").int()));
        c.check("GETEX k EXAT 33177117420", bulk("v"));
        c.check("EXPIRETIME k", int(33_177_117_420));
        c.check("GETEX k PXAT 33177117420123", bulk("v"));
        c.check("PEXPIRETIME k", int(33_177_117_420_123));
        for option in ["EX -1", "EXAT 0", "EX 9223372036854775807", "PXAT -5"] {
            c.check(
                &format!("GETEX k {option}"),
                error("ERR invalid expire time in 'getex' command"),
            );
        }
        for option in
            ["PERSIST EX 10", "EX 10 PERSIST", "EX 10 PX 10", "FOO", "EX", "NX", "KEEPTTL", "GET"]
        {
            c.check(&format!("GETEX k {option}"), syntax_error());
        }
        c.check("GETEX k EX abc", not_an_integer());
        c.check("GETEX k EXAT 1", bulk("v"));
        c.check("EXISTS k", int(0));
    });
}

#[test]
fn delifeq_deletes_only_what_is_equal() {
    each_client(|c| {
        c.check("DELIFEQ k v", int(0));
        c.check("SET k v", ok());
        c.check("DELIFEQ k other", int(0));
        c.check("GET k", bulk("v"));
        c.check("DELIFEQ k v", int(1));
        c.check("EXISTS k", int(0));
        c.check("SET n 12", ok());
        c.check("DELIFEQ n 012", int(0));
        c.check("DELIFEQ n 12", int(1));
    });
}

#[test]
fn counters() {
    each_client(|c| {
        c.check("INCR n", int(1));
        c.check("INCRBY n 41", int(42));
        c.check("DECR n", int(41));
        c.check("DECRBY n 50", int(-9));
        c.check("INCRBY n -1", int(-10));
        c.check("GET n", bulk("-10"));
        c.check("INCRBY n 17179869184", int(17_179_869_174));
        c.check("SET n 9223372036854775806", ok());
        c.check("INCR n", int(i64::MAX));
        c.check("INCR n", error("ERR increment or decrement would overflow"));
        c.check("INCRBY n 1", error("ERR increment or decrement would overflow"));
        c.check("DECRBY n -1", error("ERR increment or decrement would overflow"));
        c.check("GET n", bulk("9223372036854775807"));
        c.check("SET n -9223372036854775808", ok());
        c.check("DECR n", error("ERR increment or decrement would overflow"));
        c.check("DECRBY n -9223372036854775808", error("ERR decrement would overflow"));
        c.check("INCRBY n 9223372036854775807", int(-1));
        for increment in ["1.5", "abc", "9223372036854775808", "\"\"", "\" 1\""] {
            c.check(&format!("INCRBY n {increment}"), not_an_integer());
            c.check(&format!("DECRBY n {increment}"), not_an_integer());
        }
        c.check("SET n 5 EX 100", ok());
        c.check("INCR n", int(6));
        c.check_ttl("n", 100);
    });
}

#[test]
fn only_canonical_integers_count() {
    each_client(|c| {
        for text in [
            "\" 11\"",
            "\"11 \"",
            "1.0",
            "007",
            "+1",
            "-0",
            "\"\"",
            "1e2",
            "9223372036854775808",
            "abc",
            "-",
        ] {
            c.check(&format!("SET n {text}"), ok());
            c.check("INCR n", not_an_integer());
            c.check("DECRBY n 3", not_an_integer());
        }
        for text in ["0", "-1", "9", "10", "-9223372036854775808", "123456789012345678"] {
            c.check(&format!("SET n {text}"), ok());
            c.check("GET n", bulk(text));
            c.check("INCR n", int(text.parse::<i64>().unwrap() + 1));
        }
    });
}

#[test]
fn incrbyfloat() {
    each_client(|c| {
        let steps = [
            ("f", "0.1", "0.1"),
            ("f", "0.2", "0.3"),
            ("g", "5.0e3", "5000"),
            ("g", "-5.0e3", "0"),
            ("h", "3.0", "3"),
            ("h", "0.25", "3.25"),
            ("h", "-1e1", "-6.75"),
            ("i", "10.5", "10.5"),
            ("i", "0.1", "10.6"),
            ("j", "1234567890123456789", "1234567890123456789"),
            ("k", "-0.0", "0"),
            ("l", "1e-20", "0"),
        ];
        for (key, step, result) in steps {
            assert_eq!(c.cmd(&["INCRBYFLOAT", key, step]), bulk(result), "{key} + {step}");
            assert_eq!(c.cmd(&["GET", key]), bulk(result));
        }
        let not_a_float = error("ERR value is not a valid float");
        for step in ["abc", "\" 1\"", "\"1 \"", "\"\"", "nan", "1..2"] {
            c.check(&format!("INCRBYFLOAT f {step}"), not_a_float.clone());
        }
        c.check("INCRBYFLOAT f inf", error("ERR increment would produce NaN or Infinity"));
        c.check("INCRBYFLOAT f -inf", error("ERR increment would produce NaN or Infinity"));
        c.check("GET f", bulk("0.3"));
        for text in ["abc", "\" 11\"", "\"11 \"", "\"1 2\""] {
            c.check(&format!("SET f {text}"), ok());
            c.check("INCRBYFLOAT f 1", not_a_float.clone());
        }
        c.check("SET n 17", ok());
        c.check("INCRBYFLOAT n 0.5", bulk("17.5"));
        c.check("INCR n", not_an_integer());
        c.check("INCRBYFLOAT n 0.5", bulk("18"));
        c.check("INCR n", int(19));
        c.check("SET t 1 EX 100", ok());
        c.check("INCRBYFLOAT t 1", bulk("2"));
        c.check_ttl("t", 100);
    });
}

#[test]
fn append_and_strlen() {
    each_client(|c| {
        c.check("APPEND k foo", int(3));
        c.check("APPEND k bar", int(6));
        c.check("GET k", bulk("foobar"));
        c.check("APPEND k \"\"", int(6));
        c.check("STRLEN k", int(6));
        c.check("STRLEN none", int(0));
        c.check("APPEND none \"\"", int(0));
        c.check("SET n 12", ok());
        c.check("APPEND n 3", int(3));
        c.check("INCR n", int(124));
        c.check("STRLEN n", int(3));
        c.check("SET t ab EX 100", ok());
        c.check("APPEND t c", int(3));
        c.check_ttl("t", 100);
        let mut length = 0;
        for step in 0..2_000 {
            length += step % 97;
            assert_eq!(c.cmd(&["APPEND", "grown", &"x".repeat(step % 97)]), int(length as i64));
        }
        assert_eq!(c.run("GET grown").bytes().len(), length);
    });
}

#[test]
fn getrange_and_substr() {
    each_client(|c| {
        c.check("SET k \"Hello World\"", ok());
        let cases = [
            ("0 4", "Hello"),
            ("0 -1", "Hello World"),
            ("-5 -1", "World"),
            ("-5 -3", "Wor"),
            ("5 3", ""),
            ("20 30", ""),
            ("0 5000", "Hello World"),
            ("-5000 4", "Hello"),
            ("-5000 -5000", "H"),
            ("0 0", "H"),
            ("10 10", "d"),
            ("11 11", ""),
            ("-1 -5", ""),
            ("0 9223372036854775807", "Hello World"),
            ("-9223372036854775808 9223372036854775807", "Hello World"),
        ];
        for (range, expected) in cases {
            c.check(&format!("GETRANGE k {range}"), bulk(expected));
            c.check(&format!("SUBSTR k {range}"), bulk(expected));
        }
        c.check("SET n 12345", ok());
        c.check("GETRANGE n 1 3", bulk("234"));
        c.check("GETRANGE none 0 -1", bulk(""));
        c.check("GETRANGE k abc 1", not_an_integer());
        c.check("SUBSTR k 1 abc", not_an_integer());
    });
}

#[test]
fn setrange() {
    each_client(|c| {
        c.check("SETRANGE k 0 \"\"", int(0));
        c.check("EXISTS k", int(0));
        c.check("SETRANGE k 0 foo", int(3));
        c.check("SETRANGE k 1 x", int(3));
        c.check("GET k", bulk("fxo"));
        c.check("SETRANGE k 5 bar", int(8));
        c.check("GET k", bulk(b"fxo\0\0bar"));
        c.check("SETRANGE k 7 \"\"", int(8));
        c.check("SETRANGE fresh 3 ab", int(5));
        c.check("GET fresh", bulk(b"\0\0\0ab"));
        c.check("SET n 1234", ok());
        c.check("SETRANGE n 1 0", int(4));
        c.check("INCR n", int(1035));
        c.check("SETRANGE k -1 x", error("ERR offset is out of range"));
        c.check("SETRANGE none -1 x", error("ERR offset is out of range"));
        c.check("SETRANGE k abc x", not_an_integer());
        let too_long = error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
        c.check("SETRANGE k 536870912 x", too_long.clone());
        c.check("SETRANGE none 536870912 x", too_long.clone());
        c.check("SETRANGE none 9223372036854775807 x", too_long);
        c.check("EXISTS none", int(0));
        c.check("SET t abc EX 100", ok());
        c.check("SETRANGE t 0 x", int(3));
        c.check_ttl("t", 100);
    });
}

#[test]
fn mset_and_mget_across_shards() {
    each_client(|c| {
        c.check("MSET a 1 b 2 c 3", ok());
        c.check("MGET a b c", bulks(&["1", "2", "3"]));
        c.check("MGET c none a c", array([bulk("3"), nil(), bulk("1"), bulk("3")]));
        c.check("MSET a x a y", ok());
        c.check("GET a", bulk("y"));
        c.check("SET a 1 EX 100", ok());
        c.check("MSET a 2", ok());
        c.check("TTL a", int(-1));
        c.check("MSET a 1 b", wrong_arity("mset"));
        let names: Vec<String> = (0..500).map(|i| format!("key:{i}")).collect();
        let mut set = vec!["MSET"];
        names.iter().for_each(|name| set.extend([name.as_str(), name.as_str()]));
        assert_eq!(c.cmd(&set), ok());
        let mut get = vec!["MGET"];
        get.extend(names.iter().map(String::as_str));
        assert_eq!(c.cmd(&get), bulks(&get[1..]));
        c.check("DBSIZE", int(503));
    });
}

#[test]
fn msetnx_is_all_or_nothing() {
    each_client(|c| {
        c.check("MSETNX a 1 b 2 c 3", int(1));
        c.check("MGET a b c", bulks(&["1", "2", "3"]));
        c.check("MSETNX x 1 c 9 y 2", int(0));
        c.check("EXISTS x y", int(0));
        c.check("GET c", bulk("3"));
        c.check("MSETNX x 1 x 2", int(1));
        c.check("GET x", bulk("2"));
        c.check("PSETEX gone 5 v", ok());
        c.wait_for("EXISTS gone", int(0));
        c.check("MSETNX gone 1 new 2", int(1));
        c.check("TTL gone", int(-1));
    });
}

#[test]
fn msetex() {
    each_client(|c| {
        c.check("MSETEX 2 a 1 b 2 EX 100", int(1));
        c.check("MGET a b", bulks(&["1", "2"]));
        c.check_ttl("a", 100);
        c.check_ttl("b", 100);
        c.check("MSETEX 2 a 3 fresh 4 NX EX 100", int(0));
        c.check("MSETEX 2 a 3 fresh 4 XX EX 100", int(0));
        c.check("EXISTS fresh", int(0));
        c.check("MSETEX 2 a 3 b 4 XX KEEPTTL", int(1));
        c.check("MGET a b", bulks(&["3", "4"]));
        c.check_ttl("b", 100);
        c.check("MSETEX 2 a 5 b 6", int(1));
        c.check("TTL b", int(-1));
        c.check("MSETEX 2 c 1 d 2 nx PXAT 33177117420123", int(1));
        c.check("PEXPIRETIME d", int(33_177_117_420_123));
        c.check("MSETEX 1 a 1 EXAT 1", int(1));
        c.check("EXISTS a", int(0));
    });
}

#[test]
fn msetex_refuses_before_touching_anything() {
    each_client(|c| {
        let numkeys = error("ERR invalid numkeys value or out of range");
        for count in ["0", "abc", "-1", "9223372036854775807"] {
            c.check(&format!("MSETEX {count} a 1"), numkeys.clone());
        }
        for line in [
            "1 a 1 b 2",
            "2 a 1 b",
            "2 a 1",
            "1 a 1 NX XX",
            "1 a 1 EX 10 KEEPTTL",
            "1 a 1 GET",
            "1 a 1 EX",
        ] {
            c.check(&format!("MSETEX {line}"), syntax_error());
        }
        c.check("MSETEX 1 a 1 EX 0", error("ERR invalid expire time in 'msetex' command"));
        c.check("MSETEX 1 a 1 EX -1", error("ERR invalid expire time in 'msetex' command"));
        c.check("MSETEX 1 a 1 PX abc", not_an_integer());
        c.check("DBSIZE", int(0));
    });
}

#[test]
fn lcs() {
    each_client(|c| {
        c.check("MSET a ohmytext b mynewtext", ok());
        c.check("LCS a b", bulk("mytext"));
        c.check("LCS a b LEN", int(6));
        let range = |from, to| array([int(from), int(to)]);
        let matches = array([array([range(4, 7), range(5, 8)]), array([range(2, 3), range(0, 1)])]);
        c.check("LCS a b IDX", array([bulk("matches"), matches.clone(), bulk("len"), int(6)]));
        c.check(
            "LCS a b IDX MINMATCHLEN -5",
            array([bulk("matches"), matches, bulk("len"), int(6)]),
        );
        let long = array([array([range(4, 7), range(5, 8), int(4)])]);
        c.check(
            "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
            array([bulk("matches"), long, bulk("len"), int(6)]),
        );
        c.check("LCS a none", bulk(""));
        c.check("LCS a none LEN", int(0));
        c.check("LCS a none IDX", array([bulk("matches"), array([]), bulk("len"), int(0)]));
        c.check("LCS a a", bulk("ohmytext"));
        c.check("LCS a b WITHMATCHLEN", bulk("mytext"));
        c.check(
            "LCS a b IDX LEN",
            error("ERR If you want both the length and indexes, please just use IDX."),
        );
        c.check("LCS a b FOO", syntax_error());
        c.check("LCS a b MINMATCHLEN", syntax_error());
        c.check("LCS a b MINMATCHLEN abc", not_an_integer());
        c.run("HELLO 3");
        let map = c.run("LCS a b IDX");
        assert_eq!(map.field("len"), &int(6));
        assert!(matches!(map, Value::Map(_)), "{map:?}");
    });
}

#[test]
fn resp3_has_one_null() {
    each_client(|c| {
        c.run("HELLO 3");
        c.check("GET none", Value::Null);
        c.check("SET k 1 NX", ok());
        c.check("SET k 1 NX", Value::Null);
        c.check("GETDEL none", Value::Null);
        c.check("MGET k none", array([bulk("1"), Value::Null]));
        // INCRBYFLOAT keeps answering a string, not a double: the digits are the contract.
        c.check("INCRBYFLOAT k 0.5", bulk("1.5"));
    });
}
