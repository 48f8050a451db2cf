//! Gzip (RFC 1952) and DEFLATE (RFC 1951), unpacking only.
//!
//! A document may hold packed files; whether an engine can unpack them, and what is in them, must
//! be known before a machine boots. The data is at most what fits into user data, so simple code
//! is fast enough.

/// The most bytes that are unpacked: far more than a file of 16 KB of user data can mean.
const MOST: usize = 16 * 1024 * 1024;

/// Unpacks one gzip member.
///
/// # Errors
/// What is wrong with it, in words.
pub fn gunzip(data: &[u8]) -> Result<Vec<u8>, &'static str> {
    let header = data.get(..10).ok_or("it is too short for gzip")?;
    if header[..2] != [0x1f, 0x8b] {
        return Err("it does not start as gzip does");
    }
    if header[2] != 8 {
        return Err("it is packed by a method that gzip does not have");
    }
    let flags = header[3];
    let mut rest = &data[10..];
    let short = "its header is cut off";
    if flags & 4 != 0 {
        let length = rest.get(..2).ok_or(short)?;
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        rest = rest.get(2 + length..).ok_or(short)?;
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            let end = rest.iter().position(|byte| *byte == 0).ok_or(short)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & 2 != 0 {
        rest = rest.get(2..).ok_or(short)?;
    }
    let mut bits = Bits { data: rest, at: 0, buffer: 0, count: 0 };
    let out = inflate(&mut bits)?;
    let trailer = rest.get(bits.at..).and_then(|rest| rest.get(..8)).ok_or("its end is cut off")?;
    let word =
        |at: usize| u32::from_le_bytes([trailer[at], trailer[at + 1], trailer[at + 2], trailer[at + 3]]);
    if word(0) != crc(&out) || word(4) as usize != out.len() {
        return Err("its checksum is wrong");
    }
    Ok(out)
}

struct Bits<'d> {
    data: &'d [u8],
    /// The next byte that is not in the buffer.
    at: usize,
    buffer: u32,
    count: u32,
}

impl Bits<'_> {
    fn take(&mut self, number: u32) -> Result<u32, &'static str> {
        while self.count < number {
            let byte = *self.data.get(self.at).ok_or("its data is cut off")?;
            self.at += 1;
            self.buffer |= u32::from(byte) << self.count;
            self.count += 8;
        }
        let value = self.buffer & ((1 << number) - 1);
        self.buffer >>= number;
        self.count -= number;
        Ok(value)
    }

    fn align(&mut self) {
        self.buffer = 0;
        self.count = 0;
    }
}

/// A code by lengths: how many codes of each length there are, and the symbols in their order.
struct Huffman {
    counts: [u16; 16],
    symbols: Vec<u16>,
}

impl Huffman {
    fn new(lengths: &[u8]) -> Result<Self, &'static str> {
        let mut counts = [0_u16; 16];
        for length in lengths {
            counts[usize::from(*length)] += 1;
        }
        counts[0] = 0;
        let mut left = 1_i32;
        for count in &counts[1..] {
            left = (left << 1) - i32::from(*count);
            if left < 0 {
                return Err("one of its codes has too many symbols");
            }
        }
        let mut offsets = [0_usize; 16];
        for length in 1..15 {
            offsets[length + 1] = offsets[length] + usize::from(counts[length]);
        }
        let mut symbols = vec![0; lengths.len()];
        for (symbol, length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
            let offset = &mut offsets[usize::from(*length)];
            symbols[*offset] = u16::try_from(symbol).unwrap_or_default();
            *offset += 1;
        }
        Ok(Self { counts, symbols })
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> Result<usize, &'static str> {
        let (mut code, mut first, mut index) = (0_i32, 0_i32, 0_usize);
        for count in &self.counts[1..] {
            code |= i32::try_from(bits.take(1)?).unwrap_or_default();
            let count = i32::from(*count);
            if code - count < first {
                let at = index + usize::try_from(code - first).unwrap_or_default();
                return self
                    .symbols
                    .get(at)
                    .map(|symbol| usize::from(*symbol))
                    .ok_or("it has an unknown code");
            }
            index += usize::try_from(count).unwrap_or_default();
            first = (first + count) << 1;
            code <<= 1;
        }
        Err("it has an unknown code")
    }
}

const LENGTHS: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];
const LENGTH_BITS: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCES: [u16; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
    4097, 6145, 8193, 12289, 16385, 24577,
];
const DISTANCE_BITS: [u8; 30] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

fn inflate(bits: &mut Bits<'_>) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::new();
    loop {
        let last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => stored(bits, &mut out)?,
            1 => {
                let mut lengths = [8_u8; 288];
                lengths[144..256].fill(9);
                lengths[256..280].fill(7);
                packed(bits, &mut out, &Huffman::new(&lengths)?, &Huffman::new(&[5; 30])?)?;
            }
            2 => {
                let (literals, distances) = tables(bits)?;
                packed(bits, &mut out, &literals, &distances)?;
            }
            _ => return Err("it has a block of an unknown kind"),
        }
        if last {
            bits.align();
            return Ok(out);
        }
    }
}

fn stored(bits: &mut Bits<'_>, out: &mut Vec<u8>) -> Result<(), &'static str> {
    bits.align();
    let cut = "its data is cut off";
    let header = bits.data.get(bits.at..bits.at + 4).ok_or(cut)?;
    let length = u16::from_le_bytes([header[0], header[1]]);
    if length != !u16::from_le_bytes([header[2], header[3]]) {
        return Err("the length of one of its blocks is wrong");
    }
    let start = bits.at + 4;
    let data = bits.data.get(start..start + usize::from(length)).ok_or(cut)?;
    bits.at = start + data.len();
    out.extend_from_slice(data);
    if out.len() > MOST { Err("it grows beyond 16 MB") } else { Ok(()) }
}

fn tables(bits: &mut Bits<'_>) -> Result<(Huffman, Huffman), &'static str> {
    let literals = bits.take(5)? as usize + 257;
    let distances = bits.take(5)? as usize + 1;
    let codes = bits.take(4)? as usize + 4;
    let mut lengths = [0_u8; 320];
    for place in &ORDER[..codes] {
        lengths[*place] = bits.take(3)? as u8;
    }
    let code = Huffman::new(&lengths[..19])?;
    let mut lengths = [0_u8; 320];
    let mut at = 0;
    while at < literals + distances {
        let symbol = code.symbol(bits)?;
        let (value, times) = match symbol {
            0..=15 => (symbol as u8, 1),
            16 if at == 0 => return Err("it repeats a length before the first"),
            16 => (lengths[at - 1], 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            _ => (0, 11 + bits.take(7)?),
        };
        let end = at + times as usize;
        lengths
            .get_mut(at..end)
            .filter(|_| end <= literals + distances)
            .ok_or("it has too many lengths")?
            .fill(value);
        at = end;
    }
    Ok((Huffman::new(&lengths[..literals])?, Huffman::new(&lengths[literals..literals + distances])?))
}

fn packed(
    bits: &mut Bits<'_>,
    out: &mut Vec<u8>,
    literals: &Huffman,
    distances: &Huffman,
) -> Result<(), &'static str> {
    let unknown = "it has an unknown code";
    loop {
        let symbol = literals.symbol(bits)?;
        match symbol {
            0..=255 => out.push(symbol as u8),
            256 => return Ok(()),
            _ => {
                let place = symbol - 257;
                let length = LENGTHS.get(place).ok_or(unknown)?;
                let length = usize::from(*length) + bits.take(u32::from(LENGTH_BITS[place]))? as usize;
                let place = distances.symbol(bits)?;
                let distance = DISTANCES.get(place).ok_or(unknown)?;
                let distance = usize::from(*distance) + bits.take(u32::from(DISTANCE_BITS[place]))? as usize;
                let start = out.len().checked_sub(distance).ok_or("it refers to before its start")?;
                for at in start..start + length {
                    out.push(out[at]);
                }
            }
        }
        if out.len() > MOST {
            return Err("it grows beyond 16 MB");
        }
    }
}

fn crc(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// Made by GNU gzip 1.12.
    const SMALL: &str = "H4sIAAAAAAACA8tIzcnJ5wIAIDA6NgYAAAA=";
    const LARGE: &str = "\
        H4sIAAAAAAACA+2SOw4CMQwFe07BEUiy+eyBKJBW3L9EKDNISUfvyorjz7M91+v9vD9u19ekaY5pTpxt2lyn\
        LbwP/hvhg+xCOO6jT9szfqKIbrxPq5PelcR/xX/aXZFq9h9/JX/QhvIZNQN/JTzTZjiUw5CXeA/aN2VQp5Cf\
        7IcaVA3KdMp332WzW5x51mlrF7uqQlWqTNsUTuWUTu0W3Ipbcmtj3ak7/u08bTdp6828oTf1xt68bUzklRgJ\
        kqiy8iZ/8lg2XuX3XOAmOcAP8AP8AD/AD/AD/AA/wP8T/A9JWj56PwwAAA==";

    #[test]
    fn what_gzip_packs_is_unpacked() {
        let small = STANDARD.decode(SMALL).expect("base64");
        assert_eq!(gunzip(&small).as_deref(), Ok(b"hello\n".as_slice()));
        let large = STANDARD.decode(LARGE).expect("base64");
        let text: String = (0..400).map(|number| format!("line {}\n", number * number % 97)).collect();
        assert_eq!(gunzip(&large).map(|out| out == text.as_bytes()), Ok(true));
    }

    #[test]
    fn what_is_broken_is_refused() {
        let mut small = STANDARD.decode(SMALL).expect("base64");
        for length in 0..small.len() {
            assert!(gunzip(&small[..length]).is_err(), "{length}");
        }
        let at = small.len() - 8;
        small[at] ^= 1;
        assert_eq!(gunzip(&small), Err("its checksum is wrong"));
        assert!(gunzip(b"hello, this is not gzip").is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(data: Vec<u8>) {
            let mut framed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
            framed.extend(data);
            let _ = gunzip(&framed);
        }
    }
}
