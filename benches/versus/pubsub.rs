//! What it costs to deliver a message: one publisher, many subscribers of its
//! channel, and the server's processor time per message that a subscriber got.
//!
//! The publisher waits for its replies and not for its subscribers, who may
//! lag behind by so many messages. One thread plays all of them: it counts
//! bytes, since every message has the same length.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use crate::load::{Poll, STUCK_AFTER};
use crate::options::Options;
use crate::proc::{self, CpuSample};
use crate::server::{Launch, Product};
use crate::stats::{Ratio, median};
use crate::table::{Table, figure};
use crate::{Bench, Outcome};

/// Messages that the slowest of what is under way may be behind the publisher.
const LAG: u64 = 64;

/// Files a process needs besides its connections.
const SPARE_FILES: usize = 200;

struct Contender<'a> {
    label: String,
    product: &'a Product,
    launch: Launch,
}

#[derive(Clone, Copy)]
struct Figures {
    cpu_ns: f64,
    per_second: f64,
}

pub fn report(bench: &Bench) -> Outcome<()> {
    let options = &bench.options;
    let value_len = Options::only("values", &options.values)?;
    let most = options.connections.iter().copied().max().unwrap_or(1);
    let files = proc::raise_open_files()?;
    if files < (most + SPARE_FILES) as u64 {
        return Err(format!("{files} open files are allowed: too few for {most}").into());
    }
    let contenders = contenders(bench, most + SPARE_FILES / 2);
    bench.print_head("Messages from one publisher to its subscribers");
    println!(
        "Processor time of the server per message delivered, {value_len} B messages, {} s per \
         measurement, median of {} rounds in which all take turns. The subscribers may be {LAG} \
         messages behind.\n",
        options.seconds, options.rounds
    );
    proc::pin(&[bench.cores.load])?;
    let mut table = Table::new(
        2,
        &["case", "server", "CPU ns/message", "ours/its", "from", "to", "messages/s"],
    );
    for &subscribers in &options.connections {
        for &pipeline in &options.pipelines {
            let mut figures: Vec<Vec<Figures>> = contenders.iter().map(|_| Vec::new()).collect();
            for round in 0..options.rounds {
                for turn in 0..contenders.len() {
                    let index = (round + turn) % contenders.len();
                    let contender = &contenders[index];
                    let measured =
                        measure(contender, subscribers, pipeline, value_len, options.seconds)
                            .map_err(|error| format!("{}: {error}", contender.label))?;
                    eprintln!(
                        "{subscribers} subscribers, pipeline {pipeline}, {}: {:.0} ns per message",
                        contender.label, measured.cpu_ns
                    );
                    figures[index].push(measured);
                }
            }
            let column = |index: usize, of: fn(&Figures) -> f64| -> Vec<f64> {
                figures[index].iter().map(of).collect()
            };
            for (index, contender) in contenders.iter().enumerate() {
                let cpu = column(index, |figures| figures.cpu_ns);
                let ratio = Ratio::of_rounds(&column(0, |figures| figures.cpu_ns), &cpu);
                table.row(vec![
                    format!("{subscribers} subscribers, pipeline {pipeline}"),
                    contender.label.clone(),
                    figure(median(&cpu)),
                    format!("{:.3}", ratio.median),
                    format!("{:.3}", ratio.low),
                    format!("{:.3}", ratio.high),
                    figure(median(&column(index, |figures| figures.per_second))),
                ]);
            }
        }
    }
    table.print();
    Ok(())
}

/// Ours with one shard, with as many as asked for, and the peers.
fn contenders(bench: &Bench, max_clients: usize) -> Vec<Contender<'_>> {
    let alone =
        Launch { cores: vec![bench.cores.server], threads: 1, max_clients: Some(max_clients) };
    let ours = &bench.field.ours;
    let mut all =
        vec![Contender { label: ours.label.clone(), product: ours, launch: alone.clone() }];
    let shards = bench.options.shards;
    if shards > 1 {
        let cores = bench.cores.all.clone();
        let launch = Launch { cores, threads: shards, max_clients: Some(max_clients) };
        let label = format!("{}, {shards} shards", ours.label);
        all.push(Contender { label, product: ours, launch });
    }
    all.extend(bench.field.peers.iter().map(|peer| Contender {
        label: peer.label.clone(),
        product: peer,
        launch: alone.clone(),
    }));
    all
}

fn measure(
    contender: &Contender,
    subscribers: usize,
    pipeline: usize,
    value_len: usize,
    seconds: f64,
) -> Outcome<Figures> {
    let server = contender.product.start(&contender.launch)?;
    let mut crowd = Crowd::connect(server.port, subscribers, pipeline, value_len)?;
    crowd.run(Duration::from_secs_f64(seconds / 5.0))?;
    let before = CpuSample::take(server.pid())?;
    let began = Instant::now();
    let delivered = crowd.run(Duration::from_secs_f64(seconds))? as f64;
    let elapsed = began.elapsed().as_secs_f64();
    let used = CpuSample::take(server.pid())?.since(&before);
    Ok(Figures { cpu_ns: used.ran.as_nanos() as f64 / delivered, per_second: delivered / elapsed })
}

/// A publisher and its subscribers.
struct Crowd {
    poll: Poll,
    subscribers: Vec<TcpStream>,
    publisher: TcpStream,
    /// A pipeline of messages as it is sent, and how much of it the socket has taken.
    batch: Vec<u8>,
    sent: usize,
    /// Bytes of the replies to it, and of one message as it arrives.
    reply_len: usize,
    message_len: usize,
    pipeline: usize,
    buffer: Vec<u8>,
}

impl Crowd {
    fn connect(port: u16, count: usize, pipeline: usize, value_len: usize) -> Outcome<Crowd> {
        let poll = Poll::new()?;
        let connect = || -> Outcome<TcpStream> {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let confirmation = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
        let mut subscribers = Vec::with_capacity(count);
        for index in 0..count {
            let mut stream = connect()?;
            stream.write_all(b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n")?;
            let mut reply = vec![0; confirmation.len()];
            stream.read_exact(&mut reply)?;
            if reply != confirmation {
                return Err("a subscriber got no confirmation".into());
            }
            stream.set_nonblocking(true)?;
            poll.watch(stream.as_raw_fd(), index as u64)?;
            subscribers.push(stream);
        }
        let publisher = connect()?;
        publisher.set_nonblocking(true)?;
        poll.watch(publisher.as_raw_fd(), count as u64)?;
        let payload = format!("${value_len}\r\n{}\r\n", "x".repeat(value_len));
        let one = format!("*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n{payload}");
        Ok(Crowd {
            poll,
            subscribers,
            publisher,
            batch: one.repeat(pipeline).into_bytes(),
            sent: 0,
            reply_len: format!(":{count}\r\n").len() * pipeline,
            message_len: format!("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n{payload}").len(),
            pipeline,
            buffer: vec![0; 256 * 1024],
        })
    }

    /// Publishes for so long, and returns how many messages have been got when all have.
    fn run(&mut self, time: Duration) -> Outcome<u64> {
        let (began, count) = (Instant::now(), self.subscribers.len() as u64);
        let (mut published, mut replied, mut got) = (0_u64, self.reply_len, 0_u64);
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
        loop {
            let delivered = got / self.message_len as u64;
            let is_answered = replied == self.reply_len;
            if is_answered && began.elapsed() >= time {
                if delivered == published * count {
                    return Ok(delivered);
                }
            } else if is_answered && published * count - delivered <= LAG * count {
                (self.sent, replied) = (0, 0);
                published += self.pipeline as u64;
                self.send()?;
            }
            let ready = self.poll.wait(&mut events)?;
            if ready == 0 {
                return Err(format!("no message for {} s", STUCK_AFTER.as_secs()).into());
            }
            for event in &events[..ready] {
                match self.subscribers.get_mut(event.u64 as usize) {
                    Some(stream) => got += read(stream, &mut self.buffer)?,
                    None => {
                        self.send()?;
                        replied += read(&mut self.publisher, &mut self.buffer)? as usize;
                    }
                }
            }
        }
    }

    /// Sends what the socket takes; an event tells when it takes more.
    fn send(&mut self) -> Outcome<()> {
        while self.sent < self.batch.len() {
            match self.publisher.write(&self.batch[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Reads what there is, and returns its length.
fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> Outcome<u64> {
    let mut total = 0;
    loop {
        match stream.read(buffer) {
            Ok(0) => return Err("the server closed a connection under load".into()),
            Ok(count) => {
                total += count as u64;
                if count < buffer.len() {
                    return Ok(total);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(total),
            Err(error) => return Err(error.into()),
        }
    }
}
