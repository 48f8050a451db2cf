//! Files of backups: compressed, packed, and unpacked again.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::private_file;

/// What is written well and fast enough.
const LEVEL: i32 = 3;

/// Compresses `from` to `to`.
///
/// # Errors
/// When one of them can't be read or written.
pub fn compress(from: &Path, to: &Path) -> io::Result<()> {
    let mut out = zstd::Encoder::new(BufWriter::new(private_file::create(to)?), LEVEL)?;
    io::copy(&mut File::open(from)?, &mut out)?;
    finished(out.finish()?)
}

/// Writes what `from` holds, without its compression, to `to`.
///
/// # Errors
/// When one of them can't be read or written.
pub fn decompress(from: &Path, to: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(private_file::create(to)?);
    io::copy(&mut zstd::Decoder::new(File::open(from)?)?, &mut out)?;
    finished(out)
}

/// Packs the files of a folder into `to`.
///
/// # Errors
/// When something can't be read or written.
pub fn pack(folder: &Path, to: &Path) -> io::Result<()> {
    let out = zstd::Encoder::new(BufWriter::new(private_file::create(to)?), LEVEL)?;
    let mut archive = tar::Builder::new(out);
    archive.follow_symlinks(false);
    archive.append_dir_all(".", folder)?;
    finished(archive.into_inner()?.finish()?)
}

/// Copies a folder with what it holds, as long as it is now: what grows meanwhile can't be packed.
///
/// # Errors
/// When something can't be read or written.
pub fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    private_file::make_folder(to)?;
    for entry in std::fs::read_dir(from)? {
        let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let to = to.join(name);
        if std::fs::symlink_metadata(&entry)?.is_dir() {
            copy_folder(&entry, &to)?;
        } else {
            std::fs::copy(&entry, &to)?;
        }
    }
    Ok(())
}

/// Unpacks what [`pack`] has written into `folder`; nothing is written outside of it.
///
/// # Errors
/// When something can't be read or written.
pub fn unpack(from: &Path, folder: &Path) -> io::Result<()> {
    private_file::make_folder(folder)?;
    let mut archive = tar::Archive::new(zstd::Decoder::new(File::open(from)?)?);
    archive.set_preserve_permissions(false);
    archive.unpack(folder)
}

/// The SHA-256 of a file, and its length.
///
/// # Errors
/// When it can't be read.
pub fn sum(file: &Path) -> io::Result<([u8; 32], u64)> {
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut reader = BufReader::new(File::open(file)?);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            return Ok((hash.finalize().into(), length));
        }
        hash.update(&buffer[..read]);
        length += read as u64;
    }
}

fn finished(mut out: BufWriter<File>) -> io::Result<()> {
    out.flush()?;
    out.get_ref().sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_and_its_sum_is_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("in/2/deep")).expect("a folder");
        std::fs::write(at("in/2/deep/ä.txt"), "one").expect("written");
        pack(&at("in"), &at("packed")).expect("packed");
        unpack(&at("packed"), &at("out")).expect("unpacked");
        assert_eq!(std::fs::read_to_string(at("out/2/deep/ä.txt")).expect("read"), "one");
        compress(&at("in/2/deep/ä.txt"), &at("small")).expect("compressed");
        decompress(&at("small"), &at("again")).expect("decompressed");
        let (hash, length) = sum(&at("again")).expect("read");
        assert_eq!((hash[..2].to_vec(), length), (vec![0x76, 0x92], 3));
    }
}
