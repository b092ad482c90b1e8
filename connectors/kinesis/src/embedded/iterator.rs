//! Tokens that name a place: shard iterators, and the `NextToken` of listings. Opaque, signed, and good for a while.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};

/// Signs tokens with a secret of the folder, so that a token that was made up or cut short is noticed.
///
/// The signature guards against mistakes, not against attackers: whoever can call may read everything anyway.
#[derive(Debug, Clone)]
pub(super) struct Tokens {
    secret: [u8; 16],
}

/// Where a shard iterator stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShardIterator {
    /// The stream's identity, not its name: iterators of a stream that was deleted don't read its successor.
    pub(super) stream: u64,
    pub(super) shard: u32,
    /// The next record to be read has this index, or a larger one.
    pub(super) index: u64,
    pub(super) issued_ms: u64,
}

/// What begins a token, so that one kind isn't taken for the other.
const ITERATOR: u8 = 1;
const LISTING: u8 = 2;
const SIGNATURE: usize = 8;

impl Tokens {
    pub(super) fn new(secret: [u8; 16]) -> Self {
        Self { secret }
    }

    pub(super) fn iterator(&self, place: ShardIterator) -> String {
        let body = [
            &place.stream.to_be_bytes()[..],
            &place.shard.to_be_bytes(),
            &place.index.to_be_bytes(),
            &place.issued_ms.to_be_bytes(),
        ]
        .concat();
        self.seal(ITERATOR, &body)
    }

    /// None where it is not one of this folder's.
    pub(super) fn read_iterator(&self, token: &str) -> Option<ShardIterator> {
        let body = self.open(ITERATOR, token)?;
        let (stream, rest) = body.split_first_chunk()?;
        let (shard, rest) = rest.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        Some(ShardIterator {
            stream: u64::from_be_bytes(*stream),
            shard: u32::from_be_bytes(*shard),
            index: u64::from_be_bytes(*index),
            issued_ms: u64::from_be_bytes(rest.try_into().ok()?),
        })
    }

    /// A token for the rest of a listing: any text, and when it was made.
    pub(super) fn listing(&self, place: &str, issued_ms: u64) -> String {
        self.seal(LISTING, &[&issued_ms.to_be_bytes(), place.as_bytes()].concat())
    }

    /// The text, and when the token was made.
    pub(super) fn read_listing(&self, token: &str) -> Option<(String, u64)> {
        let body = self.open(LISTING, token)?;
        let (issued_ms, place) = body.split_first_chunk()?;
        Some((String::from_utf8(place.to_vec()).ok()?, u64::from_be_bytes(*issued_ms)))
    }

    fn seal(&self, kind: u8, body: &[u8]) -> String {
        let mut token = [&[kind], body].concat();
        token.extend_from_slice(&self.sign(&token));
        BASE64_STANDARD.encode(token)
    }

    fn open(&self, kind: u8, token: &str) -> Option<Vec<u8>> {
        let mut token = BASE64_STANDARD.decode(token).ok()?;
        let signature = token.split_off(token.len().checked_sub(SIGNATURE)?);
        let good = self.sign(&token) == signature[..] && token.first() == Some(&kind);
        good.then(|| token.split_off(1))
    }

    fn sign(&self, body: &[u8]) -> [u8; SIGNATURE] {
        let digest: [u8; 16] = Md5::new().chain_update(self.secret).chain_update(body).finalize().into();
        std::array::from_fn(|at| digest[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_a_changed_one_is_refused() {
        let tokens = Tokens::new([7; 16]);
        let place = ShardIterator { stream: 3, shard: 4, index: 5, issued_ms: 6 };
        let token = tokens.iterator(place);
        assert_eq!(tokens.read_iterator(&token), Some(place));
        assert_eq!(Tokens::new([8; 16]).read_iterator(&token), None);
        assert_eq!(tokens.read_iterator(&token[..token.len() - 4]), None);
        assert_eq!(tokens.read_iterator("no"), None);
        assert_eq!(tokens.read_iterator(""), None);

        let listing = tokens.listing("name/3", 9);
        assert_eq!(tokens.read_listing(&listing), Some(("name/3".into(), 9)));
        assert_eq!(tokens.read_iterator(&listing), None);
    }
}
