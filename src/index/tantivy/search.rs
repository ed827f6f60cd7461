//! Searching the tantivy index: sets of documents, not ranked hits, so the postings are read
//! directly. For each segment: the documents of each term, in any field that is searched, and what
//! is in all of them.

use ::tantivy::index::InvertedIndexReader;
use ::tantivy::postings::{Postings, SegmentPostings};
use ::tantivy::schema::IndexRecordOption;
use ::tantivy::{DocId, DocSet, Searcher, SegmentReader, TERMINATED, TantivyError};

use crate::index::document::Part;
use crate::index::query::{Field, Term, TextQuery, Unit};
use crate::index::tantivy::schema::{EMAIL, Fields, value_start};
use crate::types::id::{AccountId, Id};

/// All Emails of the account that match, in ascending order of their ids.
pub fn search(
    searcher: &Searcher,
    fields: &Fields,
    account: AccountId,
    query: &TextQuery,
) -> Result<Vec<Id>, TantivyError> {
    let mut ids = Vec::new();
    if query.unsearchable {
        return Ok(ids);
    }
    let header = match &query.field {
        Field::Header(name) => Some(name.as_str()),
        _ => None,
    };
    let start = value_start(account, header);
    for segment in searcher.segment_readers() {
        let found = search_segment(segment, fields, account, &start, query)?;
        let mut emails = None;
        for document in found.iter().filter(|document| !segment.is_deleted(*document)) {
            let column = match &emails {
                Some(column) => column,
                None => emails.insert(segment.fast_fields().i64(EMAIL)?),
            };
            ids.extend(column.first(document).map(Id));
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

fn search_segment(
    segment: &SegmentReader,
    fields: &Fields,
    account: AccountId,
    start: &str,
    query: &TextQuery,
) -> Result<Documents, TantivyError> {
    let parts = Part::of(&query.field);
    let mut result: Option<Documents> = None;
    for term in &query.terms {
        let mut documents = Documents::new(segment.max_doc());
        for part in parts {
            let index = segment.inverted_index(fields.of(*part))?;
            match term.units.as_slice() {
                [(_, unit)] => add_word(&index, start, unit, &mut documents)?,
                _ => add_phrase(&index, start, term, &mut documents)?,
            }
        }
        if let Some(before) = &result {
            documents.intersect(before);
        }
        let done = documents.is_empty();
        result = Some(documents);
        if done {
            break;
        }
    }
    if let Some(result) = result {
        return Ok(result);
    }
    // No terms: all Emails of the account, or all that have the header field.
    let mut documents = Documents::new(segment.max_doc());
    let (field, term) = match &query.field {
        Field::Header(_) => (fields.of(Part::Header), start.as_bytes().to_vec()),
        _ => (fields.account(), account.get().to_be_bytes().to_vec()),
    };
    let index = segment.inverted_index(field)?;
    if let Some(postings) = postings_of(&index, &term, IndexRecordOption::Basic)? {
        documents.add_all(postings);
    }
    Ok(documents)
}

fn postings_of(
    index: &InvertedIndexReader,
    term: &[u8],
    option: IndexRecordOption,
) -> Result<Option<SegmentPostings>, TantivyError> {
    match index.terms().get(term)? {
        Some(info) => Ok(Some(index.read_postings_from_terminfo(&info, option)?)),
        None => Ok(None),
    }
}

/// Calls `each` with the postings of every term that begins with `prefix`.
fn for_each_postings(
    index: &InvertedIndexReader,
    prefix: &str,
    option: IndexRecordOption,
    mut each: impl FnMut(SegmentPostings),
) -> Result<(), TantivyError> {
    // Terms are UTF-8, which has no byte of all ones.
    let end = [prefix.as_bytes(), &[0xff]].concat();
    let mut terms = index.terms().range().ge(prefix).lt(end).into_stream()?;
    while terms.advance() {
        each(index.read_postings_from_terminfo(terms.value(), option)?);
    }
    Ok(())
}

fn add_word(
    index: &InvertedIndexReader,
    start: &str,
    unit: &Unit,
    documents: &mut Documents,
) -> Result<(), TantivyError> {
    let term = format!("{start}{}", unit.text());
    match unit {
        Unit::Token(_) => {
            if let Some(postings) = postings_of(index, term.as_bytes(), IndexRecordOption::Basic)? {
                documents.add_all(postings);
            }
        }
        Unit::Prefix(_) => {
            for_each_postings(index, &term, IndexRecordOption::Basic, |postings| {
                documents.add_all(postings);
            })?;
        }
    }
    Ok(())
}

fn add_phrase(
    index: &InvertedIndexReader,
    start: &str,
    term: &Term,
    documents: &mut Documents,
) -> Result<(), TantivyError> {
    let option = IndexRecordOption::WithFreqsAndPositions;
    let mut lists = Vec::with_capacity(term.units.len());
    let mut prefix = None;
    for (distance, unit) in &term.units {
        let text = format!("{start}{}", unit.text());
        match unit {
            Unit::Token(_) => match postings_of(index, text.as_bytes(), option)? {
                Some(postings) => lists.push((*distance, postings)),
                None => return Ok(()),
            },
            Unit::Prefix(_) => prefix = Some((*distance, text)),
        }
    }
    let candidates = phrase_starts(lists);
    let Some((distance, text)) = prefix else {
        candidates.iter().for_each(|(document, _)| documents.add(*document));
        return Ok(());
    };
    if candidates.is_empty() {
        return Ok(());
    }
    for_each_postings(index, &text, option, |mut postings| {
        let mut positions = Vec::new();
        let mut rest = candidates.as_slice();
        loop {
            rest = &rest[rest.partition_point(|(document, _)| *document < postings.doc())..];
            let Some((document, starts)) = rest.first() else { break };
            if postings.doc() < *document {
                postings.seek(*document);
            }
            if postings.doc() == *document {
                if !documents.contains(*document) {
                    postings.positions(&mut positions);
                    if starts.iter().any(|start| positions.binary_search(&(start + distance)).is_ok()) {
                        documents.add(*document);
                    }
                }
                postings.advance();
            }
            if postings.doc() == TERMINATED {
                break;
            }
        }
    })
}

/// The documents in which all lists meet at their distances, each with the positions where.
fn phrase_starts(mut lists: Vec<(u32, SegmentPostings)>) -> Vec<(DocId, Vec<u32>)> {
    lists.sort_by_key(|(_, postings)| postings.doc_freq());
    let mut found = Vec::new();
    let Some(((first_distance, rarest), others)) = lists.split_first_mut() else {
        return found;
    };
    let mut positions = Vec::new();
    'documents: while rarest.doc() != TERMINATED {
        let document = rarest.doc();
        for (_, postings) in others.iter_mut() {
            if postings.doc() < document {
                postings.seek(document);
            }
            if postings.doc() > document {
                let next = postings.doc();
                rarest.seek(next);
                continue 'documents;
            }
        }
        rarest.positions(&mut positions);
        let mut starts: Vec<u32> =
            positions.iter().filter_map(|position| position.checked_sub(*first_distance)).collect();
        for (distance, postings) in others.iter_mut() {
            if starts.is_empty() {
                break;
            }
            postings.positions(&mut positions);
            starts.retain(|start| positions.binary_search(&(start + *distance)).is_ok());
        }
        if !starts.is_empty() {
            found.push((document, starts));
        }
        rarest.advance();
    }
    found
}

/// A set of documents of one segment: one bit for each.
struct Documents {
    words: Vec<u64>,
}

impl Documents {
    fn new(max_doc: DocId) -> Documents {
        Documents { words: vec![0; (max_doc as usize).div_ceil(64)] }
    }

    fn add(&mut self, document: DocId) {
        if let Some(word) = self.words.get_mut(document as usize / 64) {
            *word |= 1 << (document % 64);
        }
    }

    fn contains(&self, document: DocId) -> bool {
        self.words.get(document as usize / 64).is_some_and(|word| word >> (document % 64) & 1 == 1)
    }

    fn add_all(&mut self, mut postings: impl DocSet) {
        while postings.doc() != TERMINATED {
            self.add(postings.doc());
            postings.advance();
        }
    }

    fn intersect(&mut self, other: &Documents) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= other);
    }

    fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    fn iter(&self) -> impl Iterator<Item = DocId> {
        self.words.iter().enumerate().filter(|(_, word)| **word != 0).flat_map(|(place, word)| {
            let bits = (0..64).filter(move |bit| word >> bit & 1 == 1);
            bits.map(move |bit| place as u32 * 64 + bit)
        })
    }
}
