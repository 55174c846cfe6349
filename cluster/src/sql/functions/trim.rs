//! What `trim` cuts off, in linear time also where neither text nor set is UTF-8.
//!
//! SQLite compares each character of the set, in their order, with the text's start or end; the first that fits
//! is cut off. One of its characters is a byte, or a byte from 0xC0 on and all bytes 0x80 to 0xBF after it. So
//! two kinds fit at one place: the single byte, and at a leading byte some pieces of the run that it begins. Every
//! byte belongs to one run at most, and a run is walked once.

use std::collections::HashMap;

use super::text::continues;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
    Both,
}

/// Cuts characters of `set` off. SQLite reads the set up to a NUL.
pub(super) fn trim<'a>(text: &'a [u8], set: &[u8], side: Side) -> &'a [u8] {
    let set = Set::new(set.split(|byte| *byte == 0).next().unwrap_or_default());
    let mut text = text;
    if side != Side::Right {
        text = set.left(text);
    }
    if side != Side::Left {
        text = set.right(text);
    }
    text
}

/// The place of a character in the set: the first that fits is taken.
type Place = u32;

struct Set {
    single: [Option<Place>; 256],
    /// Children of the nodes of a tree of characters of two bytes and more; node 0 is its root.
    children: HashMap<(u32, u8), u32>,
    /// Of each node: the character that ends there.
    ends: Vec<Option<Place>>,
}

impl Set {
    fn new(set: &[u8]) -> Self {
        let mut this = Self {
            single: [None; 256],
            children: HashMap::new(),
            ends: vec![None],
        };
        let (mut rest, mut place) = (set, 0);
        while let Some((first, after)) = rest.split_first() {
            let more = match first {
                0xc0.. => after.iter().take_while(|byte| continues(**byte)).count(),
                _ => 0,
            };
            let (character, after) = rest.split_at(1 + more);
            if more == 0 {
                this.single[usize::from(*first)].get_or_insert(place);
            } else {
                let node = character
                    .iter()
                    .fold(0, |node, byte| this.grow(node, *byte));
                this.ends[node as usize].get_or_insert(place);
            }
            rest = after;
            place += 1;
        }
        this
    }
    fn grow(&mut self, node: u32, byte: u8) -> u32 {
        *self.children.entry((node, byte)).or_insert_with(|| {
            self.ends.push(None);
            // There are no more than bytes in a value.
            (self.ends.len() - 1) as u32
        })
    }
    /// The characters that a run of bytes begins with: of each, its length less one, and its place.
    fn along<'a>(&'a self, run: &'a [u8]) -> impl Iterator<Item = (usize, Place)> + 'a {
        let mut node = 0;
        run.iter()
            .enumerate()
            .take_while(|(at, byte)| *at == 0 || continues(**byte))
            .map_while(move |(at, byte)| {
                node = *self.children.get(&(node, *byte))?;
                Some((at, self.ends[node as usize]))
            })
            .filter_map(|(at, end)| Some((at, end?)))
    }

    fn left<'a>(&self, mut text: &'a [u8]) -> &'a [u8] {
        while let Some(first) = text.first() {
            let single = self.single[usize::from(*first)].map(|place| (place, 1));
            let longer = (*first >= 0xc0)
                .then(|| {
                    self.along(text)
                        .map(|(more, place)| (place, more + 1))
                        .min()
                })
                .flatten();
            let Some((_, bytes)) = single.into_iter().chain(longer).min() else {
                break;
            };
            text = &text[bytes..];
        }
        text
    }

    fn right<'a>(&self, mut text: &'a [u8]) -> &'a [u8] {
        // The run that the text's last byte is in: where it begins, and the characters along it.
        let mut run: Option<(usize, HashMap<usize, Place>)> = None;
        while let Some(last) = text.last() {
            let at = text.len() - 1;
            let single = self.single[usize::from(*last)].map(|place| (place, 1));
            let mut longer = None;
            if continues(*last) && self.ends.len() > 1 {
                if run.as_ref().is_none_or(|(begin, _)| at < *begin) {
                    let begin = text.iter().rposition(|byte| !continues(*byte));
                    let begin = begin.unwrap_or(0);
                    let ends = match text[begin] {
                        0xc0.. => self.along(&text[begin..]).collect(),
                        _ => HashMap::new(),
                    };
                    run = Some((begin, ends));
                }
                longer = run.as_ref().and_then(|(begin, ends)| {
                    let place = *ends.get(&(at - begin))?;
                    Some((place, at - begin + 1))
                });
            }
            let Some((_, bytes)) = single.into_iter().chain(longer).min() else {
                break;
            };
            text = &text[..text.len() - bytes];
        }
        text
    }
}
