//! Moving a store for good: SQLite to PostgreSQL, and back.
//!
//! 1. The target is marked as not whole, and filled. The source can still be served from: who starts
//!    it again instead has lost nothing, and the next move carries what came since.
//! 2. What has arrived is proven equal.
//! 3. The source is sealed, in one transaction that wants its head to be where it was proven.
//! 4. The target's mark is taken away.
//!
//! Killed before 3, the target takes no writer; killed between 3 and 4, neither does, and the same
//! command does what is left. There is no moment in which both do.

use std::time::{Duration, Instant};

use super::{
    End, Step, TransferError,
    carrying::{RowsByTable, Source, Told, carry},
    proof, tables,
};
use crate::{
    journal::{
        FailPoint, Source as Random,
        sealing::RootKey,
        stores::{self, Head, Seal, SealState, seal_of, tables::TableSchema},
    },
    projections::Engine,
};

/// What the transfers of moves are called.
const MOVE: &str = "move";

/// What a move has done.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The last position of the log.
    pub position: u64,
    pub root: [u8; 32],
    /// Rows carried, by table; none where that was done before.
    pub rows: RowsByTable,
    /// That it had been done before, whole.
    pub was_done: bool,
    pub elapsed: Duration,
}

/// Where a move stands.
enum Standing {
    ToFill(Seal),
    ToOpen(Seal),
    Done,
}

/// Moves a store; the target is empty, or what an earlier try has left. Where the root key is at
/// hand, contents are opened and hashed as well.
///
/// # Errors
/// When one of the ends cannot be used, or what has arrived is not what was sent. Then the source is
/// as it was, and the target takes no writer.
pub async fn move_store(
    source: &mut End,
    target: &mut End,
    root_key: Option<&RootKey>,
    random: &dyn Random,
    mut told: impl FnMut(Step) + Send,
) -> Result<Moved, TransferError> {
    let started = Instant::now();
    super::is_under_one_root_key(&*source.store).await?;
    if let Some(key) = root_key {
        proof::keyring(&source.store, key).await?;
    }
    let tables = tables::of_move().await?;
    let standing = standing(source, target, &tables, random).await?;
    let mut rows = RowsByTable::new();
    match &standing {
        Standing::ToFill(seal) => {
            if seal_of(&*target.store).await?.as_ref() != Some(seal) {
                target.execute(seal.put()).await?;
            }
            let head;
            (rows, head) = fill(source, target, &tables, root_key, &mut told).await?;
            let seal = Seal {
                state: SealState::Moved,
                other: target.name.clone(),
                at: random.now(),
                ..seal.clone()
            };
            FailPoint::Proven.hit();
            close(source, &seal, &head, tables).await?;
            FailPoint::Sealed.hit();
        }
        Standing::ToOpen(_) | Standing::Done => {}
    }
    match &standing {
        Standing::ToFill(seal) | Standing::ToOpen(seal) => open(target, seal, random).await?,
        Standing::Done => {}
    }
    let head = stores::head(&*target.store).await?;
    Ok(Moved {
        position: head.position,
        root: head.frontier.root(),
        rows,
        was_done: matches!(standing, Standing::Done),
        elapsed: started.elapsed(),
    })
}

async fn standing(
    source: &End,
    target: &End,
    tables: &[TableSchema],
    random: &dyn Random,
) -> Result<Standing, TransferError> {
    let (left, right) = (
        seal_of(&*source.store).await?,
        seal_of(&*target.store).await?,
    );
    if let Some(left) = left.filter(|seal| seal.state == SealState::Moved) {
        return match right {
            Some(right) if right.transfer == left.transfer => match right.state {
                SealState::Arriving => Ok(Standing::ToOpen(right)),
                SealState::Arrived => Ok(Standing::Done),
                SealState::Moved | SealState::Backup => Err(moved_away(&left)),
            },
            _ => Err(moved_away(&left)),
        };
    }
    stores::may_be_written(&*source.store).await?;
    match right {
        Some(right) if right.state == SealState::Arriving && right.transfer.starts_with(MOVE) => {
            Ok(Standing::ToFill(right))
        }
        None if proof::is_empty(&*target.store, tables).await? => Ok(Standing::ToFill(Seal {
            state: SealState::Arriving,
            transfer: format!("{MOVE}-{}", random.uuid()),
            other: source.name.clone(),
            at: random.now(),
        })),
        Some(_) | None => Err(not_empty(&target.name)),
    }
}

fn moved_away(seal: &Seal) -> TransferError {
    let (other, at) = (&seal.other, seal.at.to_rfc3339());
    TransferError::Refused(format!(
        "this store was moved to {other} at {at}; serve from there"
    ))
}

pub(super) fn not_empty(name: &str) -> TransferError {
    TransferError::Refused(format!(
        "{name} is not empty; name an empty database, or a folder without a store"
    ))
}

async fn fill(
    source: &End,
    target: &mut End,
    tables: &[TableSchema],
    root_key: Option<&RootKey>,
    told: Told<'_>,
) -> Result<(RowsByTable, Head), TransferError> {
    // As a server would bring them up to this version: they are compared in the end.
    Engine::open(&*source.store).await?;
    let sent = Source::of(&*source.store).await?;
    let rows = carry(&sent, &*target.store, tables, told).await?;
    target.execute(vec![sent.set_head()]).await?;
    FailPoint::Filled.hit();
    proof::fold(&*target.store, sent.head.position, told).await?;
    proof::root(&target.store, &sent.head, root_key, told).await?;
    proof::rows(&sent, &*target.store, tables, &rows, told).await?;
    proof::read_models(&*source.store, &*target.store, told).await?;
    Ok((rows, sent.head))
}

/// From here on the source takes nothing any more; if its head is still the one that was proven.
async fn close(
    source: &mut End,
    seal: &Seal,
    head: &Head,
    mut tables: Vec<TableSchema>,
) -> Result<(), TransferError> {
    let all = stores::tables::tables().await?.into_iter();
    tables.extend(all.filter(|table| table.name == "log_head"));
    let statements = seal.close(source.store.kind(), head, &tables);
    Ok(source.execute(statements).await?)
}

/// The target is a store like any other.
pub(super) async fn open(
    target: &mut End,
    seal: &Seal,
    random: &dyn Random,
) -> Result<(), TransferError> {
    let seal = Seal {
        state: SealState::Arrived,
        at: random.now(),
        ..seal.clone()
    };
    target.execute(seal.put()).await?;
    FailPoint::Opened.hit();
    Ok(())
}
