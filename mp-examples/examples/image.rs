//! Pictures made small in a pool, with a progress bar, and put on one sheet.
//!
//! ```text
//! cargo run --release -p mp-examples --example image -- sheet.png [DIR]
//! ```
//!
//! makes a sheet of all PNG and JPEG pictures in DIR, in the order of their names; without DIR, of 24 that it draws itself.
//! It prints
//!
//! ```text
//! 24 pictures of 12 megapixels on sheet.png, 0 left out
//! ```
//!
//! A file that is no picture, or one that crashes its decoder, is left out with a word on standard error; the rest is done.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use image::{DynamicImage, ImageReader, ImageResult, Rgb, RgbImage, imageops};
use indicatif::ProgressBar;
use mp_pool::Pool;
use serde::{Deserialize, Serialize};

/// The side of the square that a picture gets on the sheet, and the space around it.
const CELL: u32 = 120;
const GAP: u32 = 8;
const COLUMNS: u32 = 6;

type Failure = Box<dyn std::error::Error>;

/// Where a picture comes from.
#[derive(Serialize, Deserialize)]
enum Source {
    File(PathBuf),
    Drawn(u32),
}

/// What a worker returns: the number of pixels that the picture had, and its small version.
type Small = Result<(u64, u32, Vec<u8>), String>;

fn shrink(source: Source) -> Small {
    let picture = match source {
        Source::File(path) => read(&path).map_err(|error| format!("{}: {error}", path.display()))?,
        Source::Drawn(number) => draw(number),
    };
    let pixels = u64::from(picture.width()) * u64::from(picture.height());
    let small = picture.resize(CELL, CELL, imageops::FilterType::Lanczos3).into_rgb8();
    Ok((pixels, small.width(), small.into_raw()))
}

fn read(path: &Path) -> ImageResult<DynamicImage> {
    ImageReader::open(path)?.with_guessed_format()?.decode()
}

/// Ripples from two places that move with the number.
fn draw(number: u32) -> DynamicImage {
    let (width, height) = if number.is_multiple_of(3) { (600, 800) } else { (800, 600) };
    let turn = f64::from(number) * 0.26;
    let centres = [(0.5 + 0.4 * turn.cos(), 0.5 + 0.4 * turn.sin()), (0.5, 0.5 - 0.3 * turn.sin())];
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (f64::from(x) / f64::from(width), f64::from(y) / f64::from(height));
        let waves = centres.map(|(cx, cy)| ((x - cx).hypot(y - cy) * 40.0).sin());
        let channel = |wave: f64, hue: f64| ((wave + 1.0) * 90.0 + 70.0 * (turn + hue).sin().abs()) as u8;
        Rgb([channel(waves[0], 0.0), channel((waves[0] + waves[1]) / 2.0, 2.0), channel(waves[1], 4.0)])
    });
    picture.into()
}

/// Makes the sheet; returns how many pictures are on it, how many pixels they had, and how many were left out.
fn sheet(pool: &Pool, pictures: Vec<Source>, out: &Path) -> Result<(u32, u64, u32), Failure> {
    let rows = u32::try_from(pictures.len())?.div_ceil(COLUMNS);
    let (step, bar) = (CELL + GAP, ProgressBar::new(pictures.len() as u64));
    let mut sheet = RgbImage::from_pixel(COLUMNS * step + GAP, rows * step + GAP, Rgb([24, 24, 28]));
    let (mut count, mut pixels, mut left_out) = (0, 0, 0);
    for small in bar.wrap_iter(pool.imap(shrink, pictures)?) {
        // The outer error is a worker that died, the inner one a file that is no picture.
        match small.map_err(|error| error.to_string()).flatten() {
            Ok((had, width, bytes)) => {
                let height = u32::try_from(bytes.len())? / 3 / width;
                let small = RgbImage::from_raw(width, height, bytes).ok_or("a picture of another size")?;
                let (column, row) = (count % COLUMNS, count / COLUMNS);
                let (x, y) =
                    (GAP + column * step + (CELL - width) / 2, GAP + row * step + (CELL - height) / 2);
                imageops::replace(&mut sheet, &small, x.into(), y.into());
                count += 1;
                pixels += had;
            }
            Err(reason) => {
                left_out += 1;
                bar.suspend(|| eprintln!("left out: {reason}"));
            }
        }
    }
    sheet.save_with_format(out, image::ImageFormat::Png)?;
    Ok((count, pixels, left_out))
}

fn pictures_in(dir: &Path) -> io::Result<Vec<Source>> {
    let entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == "png" || it == "jpg" || it == "jpeg"));
    paths.sort();
    Ok(paths.into_iter().map(Source::File).collect())
}

fn run(out: &Path, dir: Option<&Path>) -> Result<(), Failure> {
    let pictures = match dir {
        Some(dir) => pictures_in(dir)?,
        None => (0..24).map(Source::Drawn).collect(),
    };
    let pool = Pool::new()?;
    let (count, pixels, left_out) = sheet(&pool, pictures, out)?;
    let megapixels = pixels.div_ceil(1_000_000);
    println!("{count} pictures of {megapixels} megapixels on {}, {left_out} left out", out.display());
    pool.close();
    pool.join()?;
    Ok(())
}

fn main() -> ExitCode {
    mp_pool::init();
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let done = match arguments.as_slice() {
        [out] => run(out, None),
        [out, dir] => run(out, Some(dir)),
        _ => Err("usage: image SHEET [DIR]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image: {error}");
            ExitCode::FAILURE
        }
    }
}
