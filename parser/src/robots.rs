//! Robots at the speed of the door: the judgement of user agents that were seen lately.
//!
//! Most requests carry one of a few user agents, and reading one word by word costs
//! several times what finding it again does. Never decides anything itself: it repeats
//! what [`RobotReason::of_words`] said. What must stay true: bounded whatever is sent,
//! nothing allocated after `new`, and no sender can bring about that another's user
//! agent is taken for its own: what is compared is the length and 64 bits of a hash under
//! a random key of this very memory, and no answer tells anybody what they were.

use std::hash::{BuildHasher, Hasher};

use fanal_model::RobotReason;
use foldhash::quality::RandomState;

/// User agents that share a place. One place is one cache line.
const SHARING: usize = 4;
/// Places; 1,024 user agents are remembered in 16 KiB.
const PLACES: usize = 256;

/// The judgement of one user agent. The default is no agent's: an empty one is never
/// looked up.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    hash: u64,
    length: u16,
    reason: Option<RobotReason>,
}

#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Place([Known; SHARING]);

/// Remembers user agents; in each place the last few that came new.
#[derive(Debug)]
pub struct Robots {
    hasher: RandomState,
    places: Box<[Place; PLACES]>,
}

impl Default for Robots {
    fn default() -> Self {
        Self { hasher: RandomState::default(), places: Box::new([Place::default(); PLACES]) }
    }
}

impl Robots {
    /// What [`RobotReason::of_words`] says of this user agent.
    pub fn of_words(&mut self, user_agent: &[u8]) -> Option<RobotReason> {
        // What lies behind is not judged either.
        let read = &user_agent[..user_agent.len().min(RobotReason::AGENT_BYTES_MAX)];
        let Some(length) = u16::try_from(read.len()).ok().filter(|length| *length > 0) else {
            return RobotReason::of_words(read);
        };
        let mut hasher = self.hasher.build_hasher();
        hasher.write(read);
        let hash = hasher.finish();
        #[expect(clippy::cast_possible_truncation, reason = "the low bits choose the place")]
        let Place(known) = &mut self.places[hash as usize % PLACES];
        if let Some(seen) = known.iter().find(|known| (known.hash, known.length) == (hash, length)) {
            return seen.reason;
        }
        let reason = RobotReason::of_words(read);
        known.rotate_right(1);
        known[0] = Known { hash, length, reason };
        reason
    }
}
