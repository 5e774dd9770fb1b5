//! What SAVE, BGSAVE, LASTSAVE and save points do, and what they answer.

use std::time::{Duration, Instant};

use crate::support::rdb::*;
use crate::support::*;
use crate::{HELD, each_of_ours, each_place, each_with, start_in};

/// Holds a save in the background that has just begun: the keys it has yet to save take for ever.
fn hold(c: &mut Client) {
    c.check(&format!("CONFIG SET rdb-key-save-delay {HELD}"), ok());
    c.check("BGSAVE", simple("Background saving started"));
}

/// Ends one that is held. That takes its moment.
fn cancel(c: &mut Client) {
    c.check("BGSAVE CANCEL", simple("Background saving cancelled"));
    wait_for_save(c);
}

fn fill(c: &mut Client, keys: usize) {
    for key in 0..keys {
        c.check(&format!("SET key:{key} value:{key}"), ok());
    }
}

fn in_progress() -> Value {
    error("ERR Background save already in progress")
}

#[test]
fn a_save_is_answered_when_the_file_is_there() {
    each_with(&["--save", ""], |server| {
        let mut c = server.client();
        let began = c.run("LASTSAVE").int();
        fill(&mut c, 40);
        assert_eq!(persistence(&mut c, "rdb_changes_since_last_save"), "40");
        c.check("SAVE", ok());
        assert_eq!(files(server.dir()), [DUMP]);
        let databases = content(&server.dir().join(DUMP));
        assert_eq!(databases.len(), 1);
        assert_eq!(databases[&0].len(), 40);
        assert_eq!(databases[&0]["key:7"], ("value:7".to_owned(), None));
        assert!(c.run("LASTSAVE").int() >= began);
        assert_eq!(persistence(&mut c, "rdb_changes_since_last_save"), "0");
        // Of nothing too.
        c.check("FLUSHALL", ok());
        c.check("SAVE", ok());
        assert!(content(&server.dir().join(DUMP)).is_empty());
    });
}

#[test]
fn wrong_arguments() {
    each_client(|c| {
        c.check("SAVE now", wrong_arity("save"));
        c.check("LASTSAVE x", wrong_arity("lastsave"));
        c.check("BGSAVE now", syntax_error());
        c.check("BGSAVE SCHEDULE x", syntax_error());
        c.check("BGSAVE CANCEL SCHEDULE", syntax_error());
        c.check(
            "BGSAVE CANCEL",
            error("ERR Background saving is currently not in progress or scheduled"),
        );
    });
}

#[test]
fn one_save_in_the_background_at_a_time() {
    each_with(&["--save", ""], |server| {
        let mut c = server.client();
        fill(&mut c, 40);
        hold(&mut c);
        for line in ["BGSAVE", "BGSAVE SCHEDULE", "SAVE"] {
            c.check(line, in_progress());
        }
        // Everybody goes on meanwhile.
        server.client().check("SET other value", ok());
        c.check("GET key:1", bulk("value:1"));
        cancel(&mut c);
        assert!(files(server.dir()).is_empty(), "{:?}", files(server.dir()));
        // Nothing is lost by that.
        c.check("CONFIG SET rdb-key-save-delay 0", ok());
        c.check("BGSAVE SCHEDULE", simple("Background saving started"));
        wait_for_save(&mut c);
        assert_eq!(content(&server.dir().join(DUMP))[&0].len(), 41);
        assert_eq!(files(server.dir()), [DUMP]);
    });
}

#[test]
fn info_says_how_a_save_goes() {
    each_with(&["--save", ""], |server| {
        let mut c = server.client();
        fill(&mut c, 40);
        let mut fields = |wanted: &[(&str, &str)]| {
            for (name, value) in wanted {
                assert_eq!(persistence(&mut c, name), *value, "{name}");
            }
        };
        let none = [
            ("rdb_bgsave_in_progress", "0"),
            ("rdb_changes_since_last_save", "40"),
            ("rdb_last_bgsave_status", "ok"),
            ("rdb_last_bgsave_time_sec", "-1"),
            ("rdb_current_bgsave_time_sec", "-1"),
        ];
        fields(&none);
        let mut other = server.client();
        hold(&mut other);
        fields(&[("rdb_bgsave_in_progress", "1"), ("rdb_changes_since_last_save", "40")]);
        assert_ne!(persistence(&mut other, "rdb_current_bgsave_time_sec"), "-1");
        // What came after the cut is not in the file.
        other.check("SET later value", ok());
        cancel(&mut other);
        // One that somebody did not want has not failed.
        fields(&[("rdb_changes_since_last_save", "41"), ("rdb_last_bgsave_status", "ok")]);
        other.check("CONFIG SET rdb-key-save-delay 0", ok());
        other.check("BGSAVE", simple("Background saving started"));
        wait_for_save(&mut other);
        fields(&[
            ("rdb_changes_since_last_save", "0"),
            ("rdb_last_bgsave_status", "ok"),
            ("rdb_current_bgsave_time_sec", "-1"),
        ]);
        let took = persistence(&mut other, "rdb_last_bgsave_time_sec");
        assert!(took.parse::<i64>().is_ok_and(|seconds| seconds >= 0), "{took}");
    });
}

#[test]
fn changes_after_the_cut_remain_to_be_saved() {
    each_of_ours(&["--save", ""], |server| {
        let mut c = server.client();
        fill(&mut c, 40);
        hold(&mut c);
        fill(&mut c, 7);
        c.check("CONFIG SET rdb-key-save-delay 0", ok());
        wait_for_save(&mut c);
        assert_eq!(persistence(&mut c, "rdb_changes_since_last_save"), "7");
    });
}

#[test]
fn in_a_transaction() {
    each_with(&["--save", ""], |server| {
        let mut c = server.client();
        fill(&mut c, 40);
        let last = c.run("LASTSAVE").int();
        c.check("MULTI", ok());
        c.check("SET in value", queued());
        c.check("BGSAVE", queued());
        c.check("LASTSAVE", queued());
        let answers = c.run("EXEC");
        assert_eq!(answers.items()[..2], [ok(), simple("Background saving scheduled")]);
        assert!(answers.items()[2].int() >= last);
        // It begins by itself when the transaction is over.
        wait_until("the file is there", || files(server.dir()) == [DUMP]);
        wait_for_save(&mut c);
        assert_eq!(content(&server.dir().join(DUMP))[&0].len(), 41);
        // Nobody can wait in there.
        c.check("MULTI", ok());
        c.check_error_prefix("SAVE", "ERR Command");
        c.check_error_prefix("EXEC", "EXECABORT");
        // While one runs.
        hold(&mut c);
        for (line, answer) in
            [("BGSAVE", in_progress()), ("BGSAVE CANCEL", simple("Background saving cancelled"))]
        {
            c.check("MULTI", ok());
            c.check(line, queued());
            c.check("EXEC", Value::Array(vec![answer]));
        }
        wait_for_save(&mut c);
    });
}

#[test]
fn others_go_on_while_a_client_waits_for_its_save() {
    each_of_ours(&["--save", ""], |server| {
        let (mut waiting, mut c) = (server.client(), server.client());
        fill(&mut c, 40);
        c.check(&format!("CONFIG SET rdb-key-save-delay {HELD}"), ok());
        waiting.send("SAVE");
        wait_until("it is saved", || is_saving(&mut c));
        fill(&mut c, 50);
        c.check("GET key:49", bulk("value:49"));
        // Who wants to save comes after it.
        let (mut second, mut third) = (server.client(), server.client());
        second.send("SAVE");
        third.send("BGSAVE");
        c.check("SET key:1 changed", ok());
        c.check(
            "BGSAVE CANCEL",
            error("ERR Background saving is currently not in progress or scheduled"),
        );
        c.check("CONFIG SET rdb-key-save-delay 0", ok());
        waiting.expect(ok());
        second.expect(ok());
        third.expect(simple("Background saving started"));
        wait_for_save(&mut c);
        let databases = content(&server.dir().join(DUMP));
        assert_eq!(databases[&0].len(), 50);
        assert_eq!(databases[&0]["key:1"].0, "changed");
    });
}

#[test]
fn a_client_that_leaves_while_it_waits() {
    each_of_ours(&["--save", ""], |server| {
        let mut c = server.client();
        fill(&mut c, 40);
        c.check(&format!("CONFIG SET rdb-key-save-delay {HELD}"), ok());
        // From every shard.
        let mut leaving: Vec<Client> = (0..5).map(|_| server.client()).collect();
        for client in &mut leaving {
            client.send("SAVE");
        }
        wait_until("it is saved", || is_saving(&mut c));
        drop(leaving);
        // Others may get their places.
        let mut others: Vec<Client> = (0..5).map(|_| server.client()).collect();
        for client in &mut others {
            client.check("GET key:3", bulk("value:3"));
        }
        c.check("CONFIG SET rdb-key-save-delay 0", ok());
        wait_for_save(&mut c);
        for client in &mut others {
            client.check("PING", simple("PONG"));
        }
        c.check("SAVE", ok());
        assert_eq!(content(&server.dir().join(DUMP))[&0].len(), 40);
    });
}

#[test]
fn between_other_commands() {
    each_with(&["--save", ""], |server| {
        let mut c = server.client();
        let dump = server.dir().join(DUMP);
        for round in 0..8 {
            let pipeline = format!("SET a {round}\r\nSET b {round}\r\nSAVE\r\nINCR a\r\nGET b\r\n");
            c.send_raw(pipeline.as_bytes());
            (0..3).for_each(|_| c.expect(ok()));
            c.expect(int(round + 1));
            c.expect(bulk(round.to_string()));
            let value = (round.to_string(), None);
            let keys = [("a".to_owned(), value.clone()), ("b".to_owned(), value)];
            assert_eq!(content(&dump)[&0], Keys::from(keys));
        }
    });
}

#[test]
fn save_points() {
    each_with(&["--save", "1 3"], |server| {
        let mut c = server.client();
        c.check("CONFIG GET save", bulks(&["save", "1 3"]));
        fill(&mut c, 3);
        wait_until("it has saved by itself", || files(server.dir()) == [DUMP]);
        wait_for_save(&mut c);
        assert_eq!(content(&server.dir().join(DUMP))[&0].len(), 3);
        assert_eq!(persistence(&mut c, "rdb_changes_since_last_save"), "0");
        // Others, at once.
        c.check("CONFIG SET save \"1000 1 1 2\"", ok());
        c.check("CONFIG GET save", bulks(&["save", "1000 1 1 2"]));
        fill(&mut c, 2);
        wait_until("again", || persistence(&mut c, "rdb_changes_since_last_save") == "0");
        // None.
        c.check("CONFIG SET save \"\"", ok());
        fill(&mut c, 9);
        for wrong in ["1", "0 1", "1 -1", "a b"] {
            c.check_error_prefix(&format!("CONFIG SET save \"{wrong}\""), "ERR CONFIG SET failed");
        }
        std::thread::sleep(Duration::from_millis(2_500));
        assert_eq!(persistence(&mut c, "rdb_changes_since_last_save"), "9");
    });
}

#[test]
fn all_is_there_after_a_restart() {
    each_place(|dir, shards| {
        let mut server = start_in(dir, shards, &["--save", "3600 1"]);
        let mut c = server.client();
        let long = "a long text ".repeat(10_000);
        fill(&mut c, 200);
        c.check("SET number 12345", ok());
        c.check("SET soon x PX 1", ok());
        assert_eq!(c.cmd(&["SET", "long", &long]), ok());
        c.check("SELECT 15", ok());
        c.check("SET volatile x EX 1000", ok());
        c.check("SET at x PXAT 99999999999999", ok());
        c.send("SHUTDOWN");
        assert_eq!(server.wait_exit().code(), Some(0));
        assert_eq!(files(dir), [DUMP]);
        // As many shards as before, or others.
        for shards in [shards, 3] {
            let server = start_in(dir, shards, &["--save", ""]);
            let mut c = server.client();
            c.wait_for("DBSIZE", int(202));
            c.check("GET key:199", bulk("value:199"));
            c.check("OBJECT ENCODING number", bulk("int"));
            c.check("GET long", bulk(&long));
            c.check("SELECT 15", ok());
            c.check("DBSIZE", int(2));
            c.check_ttl("volatile", 1000);
            c.check("PEXPIRETIME at", int(99_999_999_999_999));
        }
    });
}

#[test]
fn a_file_with_another_name() {
    let args = ["--save", "", "--dbfilename", "other.rdb", "--enable-protected-configs", "yes"];
    each_with(&args, |server| {
        let mut c = server.client();
        fill(&mut c, 3);
        c.check("SAVE", ok());
        assert_eq!(files(server.dir()), ["other.rdb"]);
        c.check("CONFIG SET dbfilename third.rdb", ok());
        c.check("BGSAVE", simple("Background saving started"));
        wait_for_save(&mut c);
        assert_eq!(files(server.dir()), ["other.rdb", "third.rdb"]);
        assert_eq!(
            content(&server.dir().join("third.rdb")),
            content(&server.dir().join("other.rdb"))
        );
    });
}

#[test]
fn a_delay_is_obeyed_while_it_changes() {
    each_of_ours(&["--save", ""], |server| {
        let mut c = server.client();
        fill(&mut c, 100);
        hold(&mut c);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(100) {
            assert!(is_saving(&mut c));
        }
        c.check("CONFIG SET rdb-key-save-delay -1", ok());
        wait_for_save(&mut c);
        assert_eq!(persistence(&mut c, "rdb_last_bgsave_status"), "ok");
    });
}
