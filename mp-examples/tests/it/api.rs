//! The public API of each crate is what its `api.txt` lists, so that no change of it goes unseen.
//!
//! The list is drawn from the source text: every item, field, method and implementation that says `pub` or belongs to a
//! trait, without what is hidden or built for tests only. After a wanted change, `MP_UPDATE=1 cargo test -p mp-examples
//! --test it api` writes the files anew.

use std::{collections::BTreeSet, fs, path::Path};

use quote::ToTokens;
use syn::{Attribute, Fields, ImplItem, Item, Visibility};

use crate::workspace;

const CRATES: [&str; 5] = ["mp-core", "mp-lock", "mp-queue", "mp-pipe", "mp-pool"];

/// Rooms whose items only these crates can name, or only with the feature that is for their tests.
const INTERNAL: [&str; 4] = ["kill_points", "linux", "os", "unsupported"];

/// The text of a piece of syntax, on one line, with the spaces where a person would put them.
fn text(tokens: &impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    for (from, to) in [
        (" ::", "::"),
        (":: ", "::"),
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        (" ,", ","),
        (",)", ")"),
        (" :", ":"),
        ("& ", "&"),
        (" ;", ";"),
        (" !", "!"),
        (" ?", "?"),
        ("->(", "-> ("),
        ("(mut ", "("),
        (", mut ", ", "),
        ("[ ", "["),
        (" ]", "]"),
    ] {
        text = text.replace(from, to);
    }
    text
}

fn public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Whether users do not see it: hidden in the documentation, or not in an ordinary build.
fn hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = text(attribute);
        text.contains("doc(hidden)")
            || text.starts_with("#[cfg") && (text.contains("test") || text.contains("mp_loom"))
    })
}

/// The attributes that are part of what is promised.
fn promises(attributes: &[Attribute]) -> String {
    let wanted = |it: &&Attribute| {
        ["derive", "non_exhaustive", "must_use"].iter().any(|name| it.path().is_ident(name))
    };
    let shown = attributes.iter().filter(wanted).map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(with_reason) => format!(" #[{}]", text(&with_reason.path)),
        meta => format!(" #[{}]", text(meta)),
    });
    shown.collect()
}

fn fields(of: &str, fields: &Fields, all: bool, list: &mut BTreeSet<String>) {
    for (number, field) in fields.iter().enumerate() {
        if (all || public(&field.vis)) && !hidden(&field.attrs) {
            let name = field.ident.as_ref().map_or_else(|| number.to_string(), ToString::to_string);
            list.insert(format!("{of}.{name}: {}", text(&field.ty)));
        }
    }
}

fn list_items(items: &[Item], dir: &Path, list: &mut BTreeSet<String>) {
    for item in items {
        list_item(item, dir, list);
    }
}

fn list_item(item: &Item, dir: &Path, list: &mut BTreeSet<String>) {
    match item {
        Item::Mod(it) if !hidden(&it.attrs) && INTERNAL.iter().all(|name| it.ident != name) => {
            let name = it.ident.to_string();
            if public(&it.vis) {
                list.insert(format!("mod {name}"));
            }
            match &it.content {
                Some((_, items)) => list_items(items, &dir.join(name), list),
                None => list_module(dir, &name, list),
            }
        }
        Item::Struct(it) if public(&it.vis) && !hidden(&it.attrs) => {
            list.insert(format!("struct {}{}{}", it.ident, text(&it.generics), promises(&it.attrs)));
            fields(&it.ident.to_string(), &it.fields, false, list);
        }
        Item::Enum(it) if public(&it.vis) && !hidden(&it.attrs) => {
            list.insert(format!("enum {}{}{}", it.ident, text(&it.generics), promises(&it.attrs)));
            for variant in it.variants.iter().filter(|variant| !hidden(&variant.attrs)) {
                let name = format!("{}::{}", it.ident, variant.ident);
                list.insert(format!("{name}{}", promises(&variant.attrs)));
                fields(&name, &variant.fields, true, list);
            }
        }
        Item::Trait(it) if public(&it.vis) && !hidden(&it.attrs) => {
            let bounds = if it.supertraits.is_empty() {
                String::new()
            } else {
                format!(": {}", text(&it.supertraits))
            };
            list.insert(format!("trait {}{}{bounds}", it.ident, text(&it.generics)));
            for member in &it.items {
                let member = match member {
                    syn::TraitItem::Fn(it) => text(&it.sig),
                    syn::TraitItem::Type(it) => text(it),
                    syn::TraitItem::Const(it) => text(it),
                    _ => continue,
                };
                list.insert(format!("{}::{member}", it.ident));
            }
        }
        Item::Impl(it) if !hidden(&it.attrs) => {
            let own = text(&it.self_ty);
            let where_clause =
                it.generics.where_clause.as_ref().map(|it| format!(" {}", text(it))).unwrap_or_default();
            if let Some((path, _)) = &it.trait_ {
                list.insert(format!("impl{} {} for {own}{where_clause}", text(&it.generics), text(path)));
                return;
            }
            for member in &it.items {
                match member {
                    ImplItem::Fn(it) if public(&it.vis) && !hidden(&it.attrs) => {
                        list.insert(format!("{own}::{}{where_clause}{}", text(&it.sig), promises(&it.attrs)));
                    }
                    ImplItem::Const(it) if public(&it.vis) && !hidden(&it.attrs) => {
                        list.insert(format!("{own}::const {}: {}", it.ident, text(&it.ty)));
                    }
                    _ => {}
                }
            }
        }
        Item::Fn(it) if public(&it.vis) && !hidden(&it.attrs) => {
            list.insert(format!("{}{}", text(&it.sig), promises(&it.attrs)));
        }
        Item::Type(it) if public(&it.vis) => {
            list.insert(format!("type {}{} = {}", it.ident, text(&it.generics), text(&it.ty)));
        }
        Item::Const(it) if public(&it.vis) && !hidden(&it.attrs) => {
            list.insert(format!("const {}: {}", it.ident, text(&it.ty)));
        }
        Item::Use(it) if public(&it.vis) && !hidden(&it.attrs) => {
            list.insert(format!("use {}", text(&it.tree)));
        }
        Item::Macro(it) if it.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export")) => {
            list.insert(format!("macro {}!", it.ident.as_ref().map(ToString::to_string).unwrap_or_default()));
        }
        _ => {}
    }
}

/// The module `name` below `dir`: `name.rs`, with its own modules in `name`, or `name/mod.rs`.
fn list_module(dir: &Path, name: &str, list: &mut BTreeSet<String>) {
    let below = dir.join(name);
    let file = [below.with_extension("rs"), below.join("mod.rs")].into_iter().find(|path| path.is_file());
    let file = file.unwrap_or_else(|| panic!("there is no module {}", below.display()));
    list_file(&file, &below, list);
}

fn list_file(file: &Path, dir: &Path, list: &mut BTreeSet<String>) {
    let parsed = syn::parse_file(&fs::read_to_string(file).unwrap());
    list_items(&parsed.unwrap_or_else(|error| panic!("{}: {error}", file.display())).items, dir, list);
}

#[test]
fn the_public_api_is_what_its_snapshot_lists() {
    let mut changed = Vec::new();
    for name in CRATES {
        let src = workspace(name).join("src");
        let mut list = BTreeSet::new();
        list_file(&src.join("lib.rs"), &src, &mut list);
        assert!(list.len() > 10, "{name} has no API: {list:?}");
        let now = list.into_iter().map(|line| line + "\n").collect::<String>();
        let path = workspace(name).join("api.txt");
        let before = fs::read_to_string(&path).unwrap_or_default();
        if now == before {
            continue;
        }
        if std::env::var_os("MP_UPDATE").is_some() {
            fs::write(path, now).unwrap();
            continue;
        }
        let (old, new): (BTreeSet<_>, BTreeSet<_>) = (before.lines().collect(), now.lines().collect());
        changed.extend(old.difference(&new).map(|line| format!("{name}: - {line}")));
        changed.extend(new.difference(&old).map(|line| format!("{name}: + {line}")));
    }
    assert!(
        changed.is_empty(),
        "the public API has changed:\n{}\nIf that is wanted: MP_UPDATE=1 cargo test -p mp-examples --test it api",
        changed.join("\n"),
    );
}
