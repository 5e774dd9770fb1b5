//! Names that nothing else has.

use crate::base::clock;

/// 40 hexadecimal digits at random: a run's id, a history's.
pub fn random() -> String {
    let mut random = [0; 20];
    if getrandom::fill(&mut random).is_err() {
        // Not secret, only to be different from all others.
        random[..8].copy_from_slice(&clock::unix_us().to_le_bytes());
    }
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
