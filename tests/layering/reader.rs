//! What a file of the sources names, and where.

use std::collections::{BTreeSet, HashMap};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

/// A path that a file names, made absolute: `std::fs::write`, `crate::oci`, `println!`, `unsafe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) path: String,
    pub(crate) line: usize,
}

/// What is to be known of a file.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Below `src/`, without `.rs`.
    pub(crate) name: String,
    pub(crate) mentions: Vec<Mention>,
    /// The types, traits and aliases that it defines, with their lines.
    pub(crate) types: Vec<(String, usize)>,
    pub(crate) lines_without_tests: usize,
}

impl Facts {
    pub(crate) fn module(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }
}

/// Collects mentions from the syntax of a file.
#[derive(Default)]
struct Reader {
    dependencies: BTreeSet<String>,
    module: Vec<String>,
    aliases: HashMap<String, Vec<String>>,
    mentions: Vec<Mention>,
    types: Vec<(String, usize)>,
    test_lines: usize,
}

impl Reader {
    fn mention(&mut self, path: String, span: proc_macro2::Span) {
        self.mentions.push(Mention { path, line: span.start().line });
    }

    /// Makes a path absolute; `None` for one that begins with a name of this file.
    fn absolute(&self, segments: &[String]) -> Option<Vec<String>> {
        let (first, rest) = segments.split_first()?;
        let mut path = match first.as_str() {
            "crate" => vec!["crate".to_owned()],
            "self" => self.here(0),
            "super" => {
                let ups = segments.iter().take_while(|segment| *segment == "super").count();
                let mut path = self.here(ups);
                path.extend_from_slice(&segments[ups..]);
                return Some(path);
            }
            "core" | "alloc" => vec!["std".to_owned()],
            name if name == "std" || self.dependencies.contains(name) => vec![name.to_owned()],
            name => self.aliases.get(name)?.clone(),
        };
        path.extend_from_slice(rest);
        Some(path)
    }

    fn here(&self, ups: usize) -> Vec<String> {
        let depth = self.module.len().saturating_sub(ups);
        std::iter::once("crate".to_owned()).chain(self.module[..depth].iter().cloned()).collect()
    }

    fn read_use(&mut self, tree: &syn::UseTree, prefix: &[String]) {
        let with = |ident: &syn::Ident| [prefix, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.read_use(&path.tree, &with(&path.ident)),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.read_use(item, prefix)),
            syn::UseTree::Glob(glob) => self.import(&[prefix, &["*".to_owned()]].concat(), None, glob.span()),
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.import(prefix, prefix.last().cloned(), name.span());
            }
            syn::UseTree::Name(name) => {
                self.import(&with(&name.ident), Some(name.ident.to_string()), name.span());
            }
            syn::UseTree::Rename(rename) => {
                let path = if rename.ident == "self" { prefix.to_vec() } else { with(&rename.ident) };
                self.import(&path, Some(rename.rename.to_string()), rename.span());
            }
        }
    }

    fn import(&mut self, path: &[String], name: Option<String>, span: proc_macro2::Span) {
        if let Some(path) = self.absolute(path) {
            self.mention(path.join("::"), span);
            self.aliases.extend(name.map(|name| (name, path)));
        }
    }

    fn read_path(&mut self, segments: &[String], span: proc_macro2::Span) {
        // A single name is a local one, or its import was seen.
        if segments.len() > 1
            && let Some(path) = self.absolute(segments)
        {
            self.mention(path.join("::"), span);
        }
    }

    /// What a macro or an attribute is given has no syntax of its own: paths are found by their colons.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, c: char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == c);
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.read_tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let mut segments = vec![first.to_string()];
                    while is(at + 1, ':') && is(at + 2, ':') {
                        let Some(TokenTree::Ident(next)) = tokens.get(at + 3) else { break };
                        segments.push(next.to_string());
                        at += 3;
                    }
                    if first == "unsafe" {
                        self.mention("unsafe".to_owned(), first.span());
                    } else if is(at + 1, '!') && !is(at + 2, '=') {
                        self.mention(format!("{}!", segments[segments.len() - 1]), first.span());
                    }
                    self.read_path(&segments, first.span());
                }
                _ => {}
            }
            at += 1;
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string() == "test",
        _ => false,
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        _ => &[],
    }
}

/// The name of what defines a type, a trait or an alias.
fn type_name(item: &syn::Item) -> Option<&syn::Ident> {
    match item {
        syn::Item::Struct(item) => Some(&item.ident),
        syn::Item::Enum(item) => Some(&item.ident),
        syn::Item::Union(item) => Some(&item.ident),
        syn::Item::Trait(item) => Some(&item.ident),
        syn::Item::Type(item) => Some(&item.ident),
        _ => None,
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_test(attributes(item)) {
            let span = item.span();
            self.test_lines += span.end().line - span.start().line + 1;
            return;
        }
        if let Some(name) = type_name(item) {
            self.types.push((name.to_string(), name.span().start().line));
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.read_use(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.read_path(&segments, path.span());
        visit::visit_path(self, path);
    }

    // `pub(super)` and the like name nobody.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(name) = call.path.segments.last() {
            self.mention(format!("{}!", name.ident), name.span());
        }
        self.read_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        if list.path.is_ident("derive") {
            self.read_tokens(list.tokens.clone());
        }
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.mention("unsafe".to_owned(), block.unsafe_token.span());
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(token) = &signature.unsafety {
            self.mention("unsafe".to_owned(), token.span());
        }
        visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(token) = &item.unsafety {
            self.mention("unsafe".to_owned(), token.span());
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_item_foreign_mod(&mut self, item: &'ast syn::ItemForeignMod) {
        self.mention("unsafe".to_owned(), item.span());
        visit::visit_item_foreign_mod(self, item);
    }
}

/// Reads a file of `src/`; `name` is its path there, without `.rs`.
pub(crate) fn read(name: &str, text: &str, dependencies: &BTreeSet<String>) -> Facts {
    let file = syn::parse_file(text).unwrap_or_else(|error| panic!("src/{name}.rs: {error}"));
    let module = match name {
        "lib" | "main" => Vec::new(),
        name => name.split('/').map(str::to_owned).collect(),
    };
    // An import may stand below its use: once for the imports, once for everything.
    let mut imports =
        Reader { dependencies: dependencies.clone(), module: module.clone(), ..Reader::default() };
    imports.visit_file(&file);
    let Reader { dependencies, aliases, .. } = imports;
    let mut reader = Reader { dependencies, module, aliases, ..Reader::default() };
    reader.visit_file(&file);
    let lines_without_tests = text.lines().count() - reader.test_lines;
    Facts { name: name.to_owned(), mentions: reader.mentions, types: reader.types, lines_without_tests }
}
