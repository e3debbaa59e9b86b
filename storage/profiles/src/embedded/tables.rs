//! The tables of the file, and the one change each of them knows.

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use super::keys::{self, Kind};
use crate::writes::{LinkKey, Slot, SlotKey, Stamp};

type Bytes = &'static [u8];

/// Name to number: `version`.
pub(super) const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");
/// Visit to stamp (8 bytes) and data.
pub(super) const VISITS: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("visits");
/// Link by user id to its time.
pub(super) const LINKS: TableDefinition<'static, Bytes, u64> = TableDefinition::new("links");
/// Link by visitor to its time.
pub(super) const VALUES: TableDefinition<'static, Bytes, u64> = TableDefinition::new("values");
/// Visitor to the stamp and the instant up to which it is erased.
pub(super) const ERASED: TableDefinition<'static, Bytes, (u64, u64)> = TableDefinition::new("erased");
/// What to look at when its hour expires.
pub(super) const EXPIRY: TableDefinition<'static, Bytes, ()> = TableDefinition::new("expiry");

/// All tables of one transaction.
pub(super) struct Tables<'txn> {
    pub(super) visits: Table<'txn, Bytes, Bytes>,
    pub(super) links: Table<'txn, Bytes, u64>,
    pub(super) values: Table<'txn, Bytes, u64>,
    pub(super) erased: Table<'txn, Bytes, (u64, u64)>,
    pub(super) expiry: Table<'txn, Bytes, ()>,
}

impl<'txn> Tables<'txn> {
    pub(super) fn open(transaction: &'txn WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            visits: transaction.open_table(VISITS)?,
            links: transaction.open_table(LINKS)?,
            values: transaction.open_table(VALUES)?,
            erased: transaction.open_table(ERASED)?,
            expiry: transaction.open_table(EXPIRY)?,
        })
    }

    /// Stores the visit or its absence, unless something newer is known.
    pub(super) fn put_slot(
        &mut self,
        key: &SlotKey,
        slot: &Slot,
        visits_max: usize,
    ) -> Result<(), redb::Error> {
        let visitor = keys::codes(&[&key.site_code, &key.visitor_code]);
        if let Some(erased) = self.erased.get(visitor.as_slice())?
            && slot.stamp <= Stamp::from_number(erased.value().0)
        {
            return Ok(());
        }
        let bytes = keys::slot(key);
        let is_new = match self.visits.get(bytes.as_slice())? {
            Some(known) if split_slot(known.value()) >= Some((slot.stamp, slot.data.as_slice())) => {
                return Ok(());
            }
            known => known.is_none(),
        };
        let mut value = Vec::with_capacity(8 + slot.data.len());
        value.extend_from_slice(&slot.stamp.number().to_be_bytes());
        value.extend_from_slice(&slot.data);
        self.visits.insert(bytes.as_slice(), value.as_slice())?;
        if is_new {
            self.expiry.insert(keys::expiry(key.started_at_ms, Kind::Visits, &visitor).as_slice(), ())?;
            self.drop_oldest(&visitor, visits_max)?;
        }
        Ok(())
    }

    /// Keeps the newest slots. Removed visits keep theirs: were it given to an older
    /// visit, what a profile holds would depend on the order of writes.
    fn drop_oldest(&mut self, visitor: &[u8], visits_max: usize) -> Result<(), redb::Error> {
        let mut oldest = Vec::new();
        for entry in range(&self.visits, visitor)?.skip(visits_max) {
            oldest.push(entry?.0.value().to_vec());
        }
        for key in oldest {
            self.visits.remove(key.as_slice())?;
        }
        Ok(())
    }

    /// Stores a link, unless it was stated later or is erased.
    pub(super) fn put_link(&mut self, key: &LinkKey, at_ms: u64) -> Result<(), redb::Error> {
        let visitor = keys::codes(&[&key.site_code, &key.visitor_code]);
        if let Some(erased) = self.erased.get(visitor.as_slice())?
            && at_ms <= erased.value().1
        {
            return Ok(());
        }
        let (by_value, by_visitor) = keys::links(key);
        if self.links.get(by_value.as_slice())?.is_some_and(|known| known.value() >= at_ms) {
            return Ok(());
        }
        self.links.insert(by_value.as_slice(), at_ms)?;
        self.values.insert(by_visitor.as_slice(), at_ms)?;
        self.expiry.insert(keys::expiry(at_ms, Kind::Link, &by_value).as_slice(), ())?;
        Ok(())
    }

    /// Removes what the erasure covers and remembers it.
    pub(super) fn erase(&mut self, codes: [&str; 2], stamp: Stamp, at_ms: u64) -> Result<(), redb::Error> {
        let visitor = keys::codes(&codes);
        let known = self.erased.get(visitor.as_slice())?.map(|erased| erased.value()).unwrap_or_default();
        let erased = (stamp.number().max(known.0), at_ms.max(known.1));
        self.erased.insert(visitor.as_slice(), erased)?;
        self.expiry.insert(keys::expiry(at_ms, Kind::Erasure, &visitor).as_slice(), ())?;
        let mut visits = Vec::new();
        for entry in range(&self.visits, &visitor)? {
            let (key, value) = entry?;
            if split_slot(value.value()).is_none_or(|(stamp, _)| stamp <= Stamp::from_number(erased.0)) {
                visits.push(key.value().to_vec());
            }
        }
        for key in visits {
            self.visits.remove(key.as_slice())?;
        }
        let mut links = Vec::new();
        for entry in range(&self.values, &visitor)? {
            let (key, value) = entry?;
            if value.value() <= erased.1 {
                links.push(key.value().to_vec());
            }
        }
        for by_visitor in links {
            self.remove_link(&by_visitor)?;
        }
        Ok(())
    }

    fn remove_link(&mut self, by_visitor: &[u8]) -> Result<(), redb::Error> {
        self.values.remove(by_visitor)?;
        if let Some(([site, visitor, value], _)) = keys::split_codes::<3>(by_visitor) {
            self.links.remove(keys::codes(&[site, value, visitor]).as_slice())?;
        }
        Ok(())
    }

    /// Removes the link if it was stated last before `oldest_ms`.
    pub(super) fn expire_link(&mut self, by_value: &[u8], oldest_ms: u64) -> Result<u64, redb::Error> {
        let is_expired = self.links.get(by_value)?.is_some_and(|at_ms| at_ms.value() < oldest_ms);
        if !is_expired {
            return Ok(0);
        }
        self.links.remove(by_value)?;
        if let Some(([site, value, visitor], _)) = keys::split_codes::<3>(by_value) {
            self.values.remove(keys::codes(&[site, visitor, value]).as_slice())?;
        }
        Ok(1)
    }

    /// Removes the visits of a visitor that began before `oldest_ms`.
    pub(super) fn expire_visits(&mut self, visitor: &[u8], oldest_ms: u64) -> Result<u64, redb::Error> {
        let mut expired = Vec::new();
        for entry in range(&self.visits, visitor)? {
            let key = entry?.0;
            if keys::read_slot(key.value()).is_none_or(|slot| slot.started_at_ms < oldest_ms) {
                expired.push(key.value().to_vec());
            }
        }
        for key in &expired {
            self.visits.remove(key.as_slice())?;
        }
        Ok(expired.len() as u64)
    }

    /// Forgets that the visitor was erased, if nothing that old could be stored now.
    pub(super) fn expire_erasure(&mut self, visitor: &[u8], oldest_ms: u64) -> Result<u64, redb::Error> {
        let is_expired = self.erased.get(visitor)?.is_some_and(|erased| erased.value().1 < oldest_ms);
        if is_expired {
            self.erased.remove(visitor)?;
        }
        Ok(u64::from(is_expired))
    }
}

/// The stamp and the data of a stored slot.
pub(super) fn split_slot(value: &[u8]) -> Option<(Stamp, &[u8])> {
    let (stamp, data) = value.split_first_chunk::<8>()?;
    Some((Stamp::from_number(u64::from_be_bytes(*stamp)), data))
}

/// All entries whose key begins with `prefix`.
pub(super) fn range<'t, V: redb::Value + 'static>(
    table: &'t impl ReadableTable<Bytes, V>,
    prefix: &[u8],
) -> Result<redb::Range<'t, Bytes, V>, redb::Error> {
    Ok(match keys::after(prefix) {
        Some(end) => table.range::<&[u8]>(prefix..end.as_slice())?,
        None => table.range::<&[u8]>(prefix..)?,
    })
}
