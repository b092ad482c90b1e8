//! Which partition a record goes to: as Java's client decides, so that a key keeps its partition when topics move to Kafka.

/// The hash of Kafka's clients (`org.apache.kafka.common.utils.Utils.murmur2`).
pub fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash: u32 = 0x9747_b28c ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().expect("a chunk has four bytes")).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

/// The partition of a key.
pub fn partition_of_key(key: &[u8], partitions: usize) -> i32 {
    // Java's `toPositive`: the sign is cut off, not turned.
    (murmur2(key) & i32::MAX) % i32::try_from(partitions).unwrap_or(i32::MAX).max(1)
}

/// Spreads records without a key: a run of them to one partition, then the next, so that batches stay large.
#[derive(Debug, Default)]
pub(super) struct Spread {
    partition: usize,
    bytes: usize,
}

/// Java's `batch.size`, after which its client moves on, too.
const RUN_BYTES: usize = 16 << 10;

impl Spread {
    /// The partition of the next record, which has `bytes` bytes.
    pub(super) fn next(&mut self, bytes: usize, partitions: usize) -> i32 {
        if self.bytes >= RUN_BYTES {
            self.partition += 1;
            self.bytes = 0;
        }
        self.bytes += bytes;
        (self.partition % partitions.max(1)) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_agrees_with_kafkas_own_test_vectors() {
        let vectors: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key), hash, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn records_without_a_key_reach_every_partition() {
        let mut spread = Spread::default();
        let counts = (0..1000).fold([0; 4], |mut counts, _| {
            counts[spread.next(700, 4) as usize] += 1;
            counts
        });
        assert!(counts.iter().all(|count| (200..300).contains(count)), "{counts:?}");
    }
}
