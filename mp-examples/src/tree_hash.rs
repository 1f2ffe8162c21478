//! A real job: the SHA-256 of every regular file below a directory, in a pool.
//!
//! Prints what `sha256sum` prints, sorted by path; what cannot be read is reported on standard error, and the rest is
//! done. The walk feeds the pool as fast as the pool hashes, so memory does not grow with the tree.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs::File,
    io::{self, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use indicatif::{ProgressBar, ProgressStyle};
use mp_pool::Pool;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::Failure;

/// What was done.
#[derive(Debug, Default)]
pub struct Summary {
    /// Files that were hashed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files and directories that could not be read.
    pub errors: u64,
}

/// A path, and what came of it: the digest in hex and the number of bytes, or why not.
type Hashed = (OsString, Result<(String, u64), String>);

fn hash(path: OsString) -> Hashed {
    let result = hash_file(Path::new(&path));
    (path, result.map_err(|error| error.to_string()))
}

fn hash_file(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                hasher.update(&buffer[..len]);
                bytes += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut hex = String::with_capacity(64);
    for byte in hasher.finalize() {
        let _ = write!(hex, "{byte:02x}");
    }
    Ok((hex, bytes))
}

/// One line as `sha256sum` prints it: names with a backslash, a newline or a carriage return are escaped, and the line
/// says so by a backslash in front.
fn line(hex: &str, path: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(path.len() + 68);
    let odd = path.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
    if odd {
        line.push(b'\\');
    }
    line.extend_from_slice(hex.as_bytes());
    line.extend_from_slice(b"  ");
    for byte in path {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            _ => line.push(*byte),
        }
    }
    line.push(b'\n');
    line
}

/// Hashes the tree below `dir`, except directories that `skip` names, with `workers` workers (`None`: one for each CPU);
/// writes the lines to `out` and the errors and a summary to standard error.
///
/// # Errors
/// Those of the pool, and of writing to `out`.
pub fn run(
    dir: &Path,
    skip: &[&str],
    workers: Option<usize>,
    out: &mut dyn Write,
) -> Result<Summary, Failure> {
    let begin = Instant::now();
    let pool = match workers {
        Some(workers) => Pool::with_workers(workers)?,
        None => Pool::new()?,
    };
    let bar = if io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template(
        "{spinner} {pos} files, {bytes_per_sec:.dim} {msg} [{elapsed}]",
    )?);
    let mut summary = Summary::default();
    let mut lines: Vec<(OsString, String)> = Vec::new();
    let mut failed: Vec<(PathBuf, String)> = Vec::new();
    let walk = WalkDir::new(dir).follow_links(false).into_iter();
    let wanted =
        walk.filter_entry(|entry| entry.depth() == 0 || !skip.iter().any(|name| entry.file_name() == *name));
    let paths = wanted.filter_map(|entry| match entry {
        Ok(entry) => entry.file_type().is_file().then(|| entry.into_path().into_os_string()),
        Err(error) => {
            let path = error.path().unwrap_or(dir).to_owned();
            let cause = error.into_io_error().map_or_else(|| "a loop".to_owned(), |error| error.to_string());
            failed.push((path, cause));
            None
        }
    });
    for result in pool.imap_unordered(hash, paths)? {
        let (path, hashed) = result?;
        match hashed {
            Ok((hex, bytes)) => {
                summary.files += 1;
                summary.bytes += bytes;
                lines.push((path, hex));
                bar.inc(1);
            }
            Err(cause) => {
                summary.errors += 1;
                bar.suspend(|| complain(path.as_encoded_bytes(), &cause));
            }
        }
    }
    bar.finish_and_clear();
    for (path, cause) in failed {
        summary.errors += 1;
        complain(path.as_os_str().as_encoded_bytes(), &cause);
    }
    lines.sort_unstable();
    for (path, hex) in &lines {
        out.write_all(&line(hex, path.as_encoded_bytes()))?;
    }
    out.flush()?;
    let workers = pool.workers();
    pool.close();
    pool.join()?;
    let seconds = begin.elapsed().as_secs_f64();
    let rate = summary.bytes as f64 / 1e6 / seconds;
    let (files, bytes) = (summary.files, summary.bytes);
    eprintln!("{files} files, {bytes} bytes, {seconds:.2} s, {workers} workers, {rate:.0} MB/s");
    Ok(summary)
}

fn complain(path: &[u8], cause: &str) {
    // A closed standard error is no reason to stop.
    let _ = writeln!(io::stderr(), "tree_hash: {}: {cause}", String::from_utf8_lossy(path));
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn odd_names_are_escaped_as_sha256sum_does() {
        assert_eq!(line("ab", b"a b"), b"ab  a b\n");
        assert_eq!(line("ab", b"a\nb\\c\rd"), b"\\ab  a\\nb\\\\c\\rd\n");
        assert_eq!(line("ab", b"\xff"), b"ab  \xff\n");
    }
}
