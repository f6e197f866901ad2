//! How a file is best sent over loopback: by `sendfile`, from mapped pages, or read and written,
//! and in pieces of which size. Two senders and two receivers share the machine, as a sidecar and
//! its clients do; what is told is how fast all of it went.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;

use divan::Bencher;
use divan::counter::BytesCount;

const PAIRS: usize = 2;
const KIB: usize = 1024;

#[derive(Clone, Copy, Debug)]
enum Way {
    Sendfile,
    Mapped,
    Read,
}

/// The file, the way, the largest piece.
type Case = (usize, Way, usize);

const fn cases(size: usize) -> [Case; 7] {
    [
        (size, Way::Sendfile, 256 * KIB),
        (size, Way::Sendfile, 4096 * KIB),
        (size, Way::Mapped, 256 * KIB),
        (size, Way::Mapped, 1024 * KIB),
        (size, Way::Mapped, 4096 * KIB),
        (size, Way::Read, 64 * KIB),
        (size, Way::Read, 1024 * KIB),
    ]
}

#[divan::bench(args = cases(1_000_000))]
fn file_of_1_mb(bencher: Bencher<'_, '_>, case: &Case) {
    send_all(bencher, *case, 100);
}

#[divan::bench(args = cases(100_000_000))]
fn file_of_100_mb(bencher: Bencher<'_, '_>, case: &Case) {
    send_all(bencher, *case, 2);
}

fn send_all(bencher: Bencher<'_, '_>, (size, way, piece): Case, times: usize) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![7; size]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let pairs: Vec<(TcpStream, TcpStream)> = (0..PAIRS)
        .map(|_| {
            let to = TcpStream::connect(address).unwrap();
            (listener.accept().unwrap().0, to)
        })
        .collect();
    let bytes = size * times * PAIRS;
    bencher.counter(BytesCount::new(bytes)).bench(|| {
        std::thread::scope(|scope| {
            for (from, to) in &pairs {
                let file = &file;
                scope.spawn(move || (0..times).for_each(|_| send(file, size, way, piece, from)));
                scope.spawn(move || receive(to, size * times));
            }
        });
    });
}

fn send(file: &File, size: usize, way: Way, piece: usize, mut to: &TcpStream) {
    match way {
        Way::Sendfile => {
            let mut at = 0;
            while at < size as u64 {
                let count = piece.min(size - at as usize);
                rustix::fs::sendfile(to, file, Some(&mut at), count).unwrap();
            }
        }
        Way::Mapped => {
            // SAFETY: the file is this bench's own and stays as it is.
            let pages = unsafe { memmap2::Mmap::map(file).unwrap() };
            pages
                .chunks(piece)
                .for_each(|piece| to.write_all(piece).unwrap());
        }
        Way::Read => {
            let (mut buffer, mut at) = (vec![0; piece], 0);
            while at < size {
                let count = file.read_at(&mut buffer, at as u64).unwrap();
                to.write_all(&buffer[..count]).unwrap();
                at += count;
            }
        }
    }
}

fn receive(mut from: &TcpStream, bytes: usize) {
    let (mut buffer, mut left) = (vec![0; 256 * KIB], bytes);
    while left > 0 {
        let limit = left.min(buffer.len());
        left -= from.read(&mut buffer[..limit]).unwrap();
    }
}
