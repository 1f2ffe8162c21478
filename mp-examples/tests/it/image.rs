//! The contact sheet.

use std::fs;

use image::GenericImageView;

use crate::{Scratch, example, output};

#[test]
fn a_sheet_of_a_directory_leaves_out_what_is_no_picture() {
    let scratch = Scratch::new("image");
    let pictures = scratch.0.join("pictures");
    fs::create_dir(&pictures).unwrap();
    let drawn = pictures.join("a.png");
    output(example("image").arg(&drawn));
    // Six columns and four rows of cells, with pictures in them.
    let sheet = image::open(&drawn).unwrap();
    assert_eq!(sheet.dimensions(), (6 * 128 + 8, 4 * 128 + 8));
    let ground = sheet.get_pixel(0, 0);
    for cell in 0..24 {
        let centre = sheet.get_pixel(68 + cell % 6 * 128, 68 + cell / 6 * 128);
        assert_ne!(centre, ground, "picture {cell} is missing");
    }

    fs::write(pictures.join("b.jpg"), "no picture").unwrap();
    fs::write(pictures.join("c.txt"), "not even by its name").unwrap();
    let out = scratch.0.join("sheet");
    let (text, errors) = output(example("image").args([&out, &pictures]));
    assert_eq!(text, format!("1 pictures of 1 megapixels on {}, 1 left out\n", out.display()));
    assert!(errors.contains("b.jpg: ") && !errors.contains("c.txt"), "{errors}");
    assert_eq!(
        image::ImageReader::open(&out).unwrap().with_guessed_format().unwrap().decode().unwrap().dimensions(),
        (776, 136)
    );
}

#[test]
fn wrong_arguments_are_explained() {
    for arguments in [&[][..], &["a", "b", "c"]] {
        let output = example("image").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "image: usage: image SHEET [DIR]\n");
    }
}
