//! PROXY headers: any bytes are a header, the first part of one, or none; the pieces make no
//! difference, and what follows a header changes nothing. What a header says, a reader written from
//! the text of the protocol says too.

use std::net::{IpAddr, SocketAddr};

use heartwheel::core::wire::proxy_header::{PROXY_HEADER_BYTES_MAX, read_proxy_header};

pub fn run(input: &[u8]) {
    let whole = read_proxy_header(input);
    let mut decided = false;
    for cut in 0..=input.len() {
        let part = read_proxy_header(&input[..cut]);
        match part {
            Ok(None) => assert!(!decided, "what was decided is open again at {cut}"),
            _ if decided => {}
            Ok(Some(header)) => {
                assert_eq!((header.len, part), (cut, whole), "it is known with its last byte");
                decided = true;
            }
            Err(_) => {
                assert!(whole.is_err(), "it was refused at {cut}");
                decided = true;
            }
        }
    }
    if input.len() >= PROXY_HEADER_BYTES_MAX {
        assert_ne!(whole, Ok(None), "no header is longer");
    }
    if let Ok(Some(header)) = whole {
        let said = &input[..header.len];
        let source = if said[0] == b'P' { source_of_line(said) } else { source_of_block(said) };
        let kept = source.filter(|source| !source.ip().is_unspecified());
        assert_eq!(header.source, kept, "{}", said.escape_ascii());
    }
}

/// Takes a good header of version 1 apart.
fn source_of_line(line: &[u8]) -> Option<SocketAddr> {
    if line.starts_with(b"PROXY UNKNOWN") {
        return None;
    }
    let line = std::str::from_utf8(line).expect("addresses are text");
    let words: Vec<&str> = line.strip_suffix("\r\n").expect("it ends").split(' ').collect();
    assert_eq!(words.len(), 6);
    let [source, destination] = [2, 3].map(|at| words[at].parse::<IpAddr>().expect("an address"));
    assert_eq!(source.is_ipv4(), destination.is_ipv4());
    assert_eq!(words[1], if source.is_ipv4() { "TCP4" } else { "TCP6" });
    let [port, _] = [4, 5].map(|at| words[at].parse::<u16>().expect("a port"));
    Some((source, port).into())
}

/// Takes a good header of version 2 apart.
fn source_of_block(block: &[u8]) -> Option<SocketAddr> {
    let len = usize::from(block[14]) << 8 | usize::from(block[15]);
    assert_eq!(block.len(), 16 + len);
    let port = |at: usize| u16::from(block[at]) << 8 | u16::from(block[at + 1]);
    match (block[12], block[13]) {
        (0x21, 0x11 | 0x12) => {
            let ip: [u8; 4] = block[16..20].try_into().unwrap();
            Some((ip, port(24)).into())
        }
        (0x21, 0x21 | 0x22) => {
            let ip: [u8; 16] = block[16..32].try_into().unwrap();
            Some((ip, port(48)).into())
        }
        _ => None,
    }
}
