// What Rust programs do, for test_trace_programs.py: one word a thing. Built static, it has a libc of its own inside.
use std::env;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;

fn serve(addr: &str) {
    let listener = TcpListener::bind(addr).unwrap();
    println!("ready {}", listener.local_addr().unwrap().port());
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        thread::spawn(move || {
            let (mut data, mut len) = ([0; 65536], 0);
            println!("from {} at {}", stream.peer_addr().unwrap(), stream.local_addr().unwrap());
            while let Ok(n) = stream.read(&mut data) {
                len += n;
                if n == 0 || stream.write_all(&data[..n]).is_err() {
                    break;
                }
            }
            println!("echoed {}", len);
        });
    }
}

fn echo(to: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    let sent = vec![7u8; 1 << 20];
    let copy = sent.clone();
    let mut writer = stream.try_clone().unwrap();
    let thread = thread::spawn(move || writer.write_all(&copy).unwrap());
    let mut got = vec![0u8; 1 << 20];
    stream.read_exact(&mut got).unwrap();
    thread.join().unwrap();
    assert!(got == sent);
    stream
}

fn ends(to: &str) {
    let stream = echo(to);
    println!("{} {}", stream.local_addr().unwrap().ip(), stream.peer_addr().unwrap());
}

fn threads(to: &str, count: usize) {
    let all: Vec<_> = (0..count).map(|_| to.to_string()).map(|to| thread::spawn(move || drop(echo(&to)))).collect();
    let good = all.into_iter().filter_map(|thread| thread.join().ok()).count();
    println!("good {}", good);
}

fn datagram(to: &str) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut data = [0; 2000];
    socket.send_to(b"hello", to).unwrap();
    let (n, from) = socket.recv_from(&mut data).unwrap();
    println!("{} from {}", String::from_utf8_lossy(&data[..n]), from);
}

fn main() {
    let a: Vec<String> = env::args().collect();
    match a[1].as_str() {
        "serve" => serve(&a[2]),
        "ends" => ends(&a[2]),
        "threads" => threads(&a[2], a[3].parse().unwrap()),
        "datagram" => datagram(&a[2]),
        other => panic!("{}", other),
    }
}
