//! `#[derive(Config)]` and `#[derive(ConfigValue)]`: the documented fields of a struct become its definition and parser.
//!
//! What the attributes mean is documented at `ottla_api::config::Config`.

use proc_macro::TokenStream;
use quote::quote;
use syn::{Attribute, Data, DeriveInput, Expr, Fields, GenericArgument, Lit, PathArguments, Type, parse_macro_input};

/// Implements `ottla_api::config::Config` for a struct with named fields.
#[proc_macro_derive(Config, attributes(config))]
pub fn derive_config(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand_config(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Implements `ottla_api::config::ConfigValue` for an enum without fields.
#[proc_macro_derive(ConfigValue, attributes(config))]
pub fn derive_config_value(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand_config_value(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// The attributes of one field or variant.
#[derive(Default)]
struct Options {
    name: Option<String>,
    prefix: Option<String>,
    default: Option<String>,
    importance: Option<String>,
    aliases: Vec<String>,
    min: Option<Expr>,
    max: Option<Expr>,
    flatten: bool,
    doc: String,
}

impl Options {
    fn read(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut options = Self::default();
        for attribute in attributes {
            if attribute.path().is_ident("doc") {
                if let syn::Meta::NameValue(meta) = &attribute.meta
                    && let Expr::Lit(literal) = &meta.value
                    && let Lit::Str(text) = &literal.lit
                {
                    let line = text.value();
                    options.doc.push_str(line.strip_prefix(' ').unwrap_or(&line));
                    options.doc.push('\n');
                }
            } else if attribute.path().is_ident("config") {
                attribute.parse_nested_meta(|meta| {
                    let text = || -> syn::Result<String> { Ok(meta.value()?.parse::<syn::LitStr>()?.value()) };
                    if meta.path.is_ident("name") {
                        options.name = Some(text()?);
                    } else if meta.path.is_ident("prefix") {
                        options.prefix = Some(text()?);
                    } else if meta.path.is_ident("default") {
                        options.default = Some(text()?);
                    } else if meta.path.is_ident("importance") {
                        options.importance = Some(text()?);
                    } else if meta.path.is_ident("aliases") {
                        options.aliases = text()?.split(',').map(|alias| alias.trim().to_owned()).collect();
                    } else if meta.path.is_ident("min") {
                        options.min = Some(meta.value()?.parse()?);
                    } else if meta.path.is_ident("max") {
                        options.max = Some(meta.value()?.parse()?);
                    } else if meta.path.is_ident("flatten") {
                        options.flatten = true;
                    } else {
                        return Err(meta.error("unknown attribute; known are name, prefix, default, importance, aliases, min, max, flatten"));
                    }
                    Ok(())
                })?;
            }
        }
        options.doc.truncate(options.doc.trim_end().len());
        Ok(options)
    }
}

/// `T` of an `Outer<T>`.
fn argument_of<'a>(outer: &str, ty: &'a Type) -> Option<&'a Type> {
    let Type::Path(path) = ty else { return None };
    let segment = path.path.segments.last().filter(|segment| segment.ident == outer)?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    match arguments.args.first() {
        Some(GenericArgument::Type(ty)) => Some(ty),
        _ => None,
    }
}

/// `T` of a `Vec<(String, T)>`.
fn prefixed_type(ty: &Type) -> Option<&Type> {
    match argument_of("Vec", ty) {
        Some(Type::Tuple(pair)) if pair.elems.len() == 2 => pair.elems.last(),
        _ => None,
    }
}

fn expand_config(input: &DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new_spanned(input, "Config is derived for a struct with named fields"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(syn::Error::new_spanned(input, "Config is derived for a struct with named fields"));
    };
    let (mut definitions, mut reads, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for field in &fields.named {
        let ident = field.ident.as_ref().expect("named field");
        let ty = &field.ty;
        let options = Options::read(&field.attrs)?;
        names.push(ident);
        if options.flatten {
            definitions.push(quote! { .and(<#ty as ::ottla_api::config::Config>::definition()) });
            reads.push(quote! { let #ident = <#ty as ::ottla_api::config::Config>::read(reader); });
            continue;
        }
        if options.doc.is_empty() {
            return Err(syn::Error::new_spanned(field, "an option needs a doc comment: it is what users read"));
        }
        let inner_optional = argument_of("Option", ty);
        let value_type = match &options.prefix {
            Some(_) => prefixed_type(ty)
                .ok_or_else(|| syn::Error::new_spanned(ty, "an option with a prefix is a Vec<(String, T)>"))?,
            None => inner_optional.unwrap_or(ty),
        };
        let name = options.name.clone().unwrap_or_else(|| ident.to_string().replace('_', "."));
        let key_name = match &options.prefix {
            Some(prefix) => quote! { ::ottla_api::config::KeyName::Prefix(#prefix.into()) },
            None => quote! { ::ottla_api::config::KeyName::Exact(#name.into()) },
        };
        let required = options.prefix.is_none() && inner_optional.is_none() && options.default.is_none();
        let importance = match options.importance.as_deref() {
            Some("high") => quote! { High },
            Some("low") => quote! { Low },
            Some("medium") => quote! { Medium },
            None if required => quote! { High },
            None => quote! { Medium },
            Some(_) => return Err(syn::Error::new_spanned(field, "importance is high, medium or low")),
        };
        let default = match &options.default {
            Some(text) => quote! { ::std::option::Option::Some(#text.into()) },
            None => quote! { ::std::option::Option::None },
        };
        let (aliases, doc) = (&options.aliases, &options.doc);
        let bound = |bound: &Option<Expr>| match bound {
            Some(bound) => quote! { ::std::option::Option::Some((#bound) as i128) },
            None => quote! { ::std::option::Option::None },
        };
        let (min, max) = (bound(&options.min), bound(&options.max));
        definitions.push(quote! {
            .with(::ottla_api::config::ConfigKey {
                name: #key_name,
                aliases: ::std::vec![#(#aliases),*],
                type_name: <#value_type as ::ottla_api::config::ConfigValue>::type_name(),
                choices: <#value_type as ::ottla_api::config::ConfigValue>::choices(),
                default: #default,
                required: #required,
                importance: ::ottla_api::config::Importance::#importance,
                secret: <#value_type as ::ottla_api::config::ConfigValue>::is_secret(),
                doc: #doc.into(),
                check: &|text| {
                    ::ottla_api::config::parse_in_range::<#value_type>(text, (#min, #max)).map(|_| ())
                },
            })
        });
        let keys = quote! { &[#name #(, #aliases)*] };
        reads.push(match (&options.prefix, inner_optional, &options.default) {
            (Some(prefix), _, _) => quote! { let #ident = reader.prefixed::<#value_type>(#prefix); },
            (None, Some(_), None) => quote! { let #ident = reader.optional::<#value_type>(#keys, (#min, #max)); },
            (None, Some(_), Some(default)) => quote! {
                let #ident = reader.required::<#value_type>(#keys, ::std::option::Option::Some(#default), (#min, #max))
                    .map(::std::option::Option::Some);
            },
            (None, None, Some(default)) => quote! {
                let #ident = reader.required::<#value_type>(#keys, ::std::option::Option::Some(#default), (#min, #max));
            },
            (None, None, None) => quote! {
                let #ident = reader.required::<#value_type>(#keys, ::std::option::Option::None, (#min, #max));
            },
        });
    }
    let ident = &input.ident;
    Ok(quote! {
        impl ::ottla_api::config::Config for #ident {
            fn definition() -> ::ottla_api::config::ConfigDef {
                ::ottla_api::config::ConfigDef::new() #(#definitions)*
            }

            fn read(reader: &mut ::ottla_api::config::Reader<'_>) -> ::std::option::Option<Self> {
                #(#reads)*
                ::std::option::Option::Some(Self { #(#names: #names?),* })
            }
        }
    })
}

fn expand_config_value(input: &DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(syn::Error::new_spanned(input, "ConfigValue is derived for an enum without fields"));
    };
    let (mut texts, mut variants) = (Vec::new(), Vec::new());
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(syn::Error::new_spanned(variant, "ConfigValue is derived for an enum without fields"));
        }
        let options = Options::read(&variant.attrs)?;
        texts.push(options.name.unwrap_or_else(|| kebab(&variant.ident.to_string())));
        variants.push(&variant.ident);
    }
    let ident = &input.ident;
    let list = texts.join(", ");
    Ok(quote! {
        impl ::ottla_api::config::ConfigValue for #ident {
            fn parse(text: &str) -> ::std::result::Result<Self, ::std::string::String> {
                #(if text.trim().eq_ignore_ascii_case(#texts) { return ::std::result::Result::Ok(Self::#variants); })*
                ::std::result::Result::Err(::std::format!("must be one of {}, found '{text}'", #list))
            }

            fn type_name() -> ::std::borrow::Cow<'static, str> {
                "choice".into()
            }

            fn choices() -> ::std::vec::Vec<&'static str> {
                ::std::vec![#(#texts),*]
            }
        }
    })
}

/// `CaughtUp` to `caught-up`.
fn kebab(name: &str) -> String {
    let mut text = String::new();
    for (index, c) in name.chars().enumerate() {
        if c.is_uppercase() && index > 0 {
            text.push('-');
        }
        text.extend(c.to_lowercase());
    }
    text
}
