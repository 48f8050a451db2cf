//! Gzip (RFC 1952): files in a document may be packed, and so may the document.

use std::io::{Read as _, Write as _};

use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};

/// The most bytes that are unpacked: far more than a file of 16 KB of user data can mean.
const MOST: u64 = 16 * 1024 * 1024;

/// Unpacks one gzip member.
///
/// # Errors
/// What is wrong with it, in words.
pub fn gunzip(data: &[u8]) -> Result<Vec<u8>, &'static str> {
    if !data.starts_with(&[0x1f, 0x8b]) {
        return Err("it does not start as gzip does");
    }
    let mut out = Vec::new();
    let read = GzDecoder::new(data).take(MOST + 1).read_to_end(&mut out);
    match read {
        Ok(_) if out.len() as u64 > MOST => Err("it unpacks to more than 16 MiB"),
        Ok(_) => Ok(out),
        Err(_) => Err("it is cut off or damaged"),
    }
}

/// Packs; the same bytes always give the same: neither name nor time is in it.
pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut packer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    // Writing to memory does not fail; were it to, an empty result says that packing does not help.
    packer.write_all(data).and_then(|()| packer.finish()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_gzip_is_told_and_what_is_cut_off() {
        assert!(gunzip(b"plain").is_err());
        assert!(gunzip(&[]).is_err());
        let packed = gzip(b"hello");
        assert!(gunzip(&packed[..packed.len() - 4]).is_err());
    }

    proptest! {
        #[test]
        fn packing_loses_nothing_and_is_the_same_every_time(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            let packed = gzip(&data);
            prop_assert_eq!(&gzip(&data), &packed);
            prop_assert_eq!(gunzip(&packed), Ok(data));
        }

        #[test]
        fn any_bytes_are_refused_or_unpacked_without_panic(data in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = gunzip(&[&[0x1f, 0x8b, 8, 0], data.as_slice()].concat());
        }
    }
}
