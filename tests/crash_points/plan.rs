//! What it takes to come to a crash point.

/// How a relay is brought to a point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// It dies when it comes to the point this many times.
    pub(crate) pass: u64,
    pub(crate) before: Before,
    pub(crate) during: During,
    /// More lines of `[[source]]`.
    pub(crate) source: &'static str,
    /// Lines of `[[destination]]` about its drains.
    pub(crate) drains: &'static str,
    /// Logs that SLS has.
    pub(crate) logs: u64,
    /// Most uncompressed bytes in one answer of SLS.
    pub(crate) answer_bytes: usize,
}

/// What the relay finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Before {
    /// No spool.
    Nothing,
    /// A spool after so many lives without a receiver, each of them killed.
    Lives(u32),
    /// Such a spool, and what else was done to it.
    Then(Harm),
}

/// What was done to a spool while nobody had it open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Harm {
    /// A process died while it wrote the first identity.
    HalfIdentity,
    /// A process died in the middle of a write.
    TornTail,
    /// Two processes died while they made a segment.
    UnfinishedSegments,
    /// A process died while it removed segments.
    HalfRemoved,
    CatalogGone,
    /// `again`: it was so before, and the catalog of then was set aside.
    CatalogUnreadable {
        again: bool,
    },
    /// A bit is flipped where it costs no log.
    FlippedBit,
}

/// What happens to the relay that is to die.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum During {
    /// It pulls and delivers.
    Flow,
    /// It pulls, and has nobody to deliver to.
    ReceiverAway,
    /// It gets answers that cannot be read.
    SpoiledAnswers,
    /// It is told to end.
    Stop { receiver_away: bool },
}

/// The way to a point, the first or the `second` time. It must come to it however slow or
/// quick everything is: a pass later than the first is one that no timing can leave out.
pub(crate) fn plan(point: &str, second: bool, rng: &mut fastrand::Rng) -> Plan {
    let (pass, lives) = (if second { 2 } else { 1 }, Before::Lives(rng.u32(1..=3)));
    let flow = Plan {
        pass,
        before: Before::Nothing,
        during: During::Flow,
        source: "",
        drains: OFTEN,
        logs: 1600,
        answer_bytes: 64 << 10,
    };
    let once = Plan { pass: 1, ..flow };
    let found = |before| Plan { before, ..once };
    let harmed = |harm| found(Before::Then(harm));
    let mut late = |most| if second { rng.u64(2..=most) } else { 1 };
    match point {
        // Once in a start, or seldom: the first time without a spool, then with one.
        "directories-made" | "recovery-settled" | "catalog-filled" | "spool-opened"
        | "acks-synced" | "logs-confirmed" | "acks-noted" => {
            found(if second { lives } else { Before::Nothing })
        }
        // What is delivered and removed before there is a pause never comes to the catalog.
        "catalog-inserting" | "catalog-inserted" => Plan {
            during: During::ReceiverAway,
            ..found(if second { lives } else { Before::Nothing })
        },
        "identity-written" | "identity-named" if second => harmed(Harm::HalfIdentity),
        "identity-written" | "identity-named" => once,
        "recovery-synced" => found(lives),
        "recovery-cut" => harmed(Harm::TornTail),
        "recovery-aside" => Plan { pass, ..harmed(Harm::UnfinishedSegments) },
        "recovery-removed" => Plan { pass, drains: AT_END, ..harmed(Harm::HalfRemoved) },
        "catalog-filling" => Plan { pass, ..harmed(Harm::CatalogGone) },
        "catalog-unusable" | "catalog-aside" => harmed(Harm::CatalogUnreadable { again: second }),
        // The receiver was away, and then has all of it at once.
        "between-removals" => {
            Plan { pass: late(3), before: Before::Lives(5), drains: AT_END, ..flow }
        }
        "floor-synced" => found(lives),
        "removals-unsynced" | "removals-synced" if !second => found(lives),
        "removals-unsynced" | "removals-synced" => Plan { logs: 4000, ..once },
        "segment-created" | "segment-synced" | "segment-named" | "segment-rolled" => {
            Plan { logs: 4000, ..flow }
        }
        // Batches of more than a MiB, few enough that earlier lives might leave none.
        "write-split" => Plan { logs: 16_000, answer_bytes: 8 << 20, ..flow },
        "copy-begun" | "copy-noted" | "copy-synced" | "copy-named" | "ledger-due"
        | "ledger-written" | "ledger-synced" => match second {
            false => Plan { during: During::SpoiledAnswers, source: SOON, ..once },
            true => harmed(Harm::FlippedBit),
        },
        "intent-durable" => Plan { source: DELIVERED, ..flow },
        "last-group-due" | "last-group-proven" | "ended" => {
            Plan { during: During::Stop { receiver_away: second }, ..once }
        }
        "group-written" | "group-synced" | "group-published" => Plan { pass: late(12), ..flow },
        "chunk-written" => Plan { pass: late(25), ..flow },
        // Whatever a relay that pulls and delivers passes at least twice.
        _ => flow,
    }
}

/// Lines of `[[destination]]`: a proof every now and then, or one when all is sent.
const OFTEN: &str = r#"
drain_every = "1 s"
drain_bytes = "1 MiB"
drain_idle = "100 ms"
"#;
const AT_END: &str = r#"
drain_every = "1 min"
drain_bytes = "1 GiB"
drain_idle = "500 ms"
"#;
const DELIVERED: &str = r#"checkpoint = "delivered""#;
/// An answer that cannot be read is put aside as soon as the configuration allows.
const SOON: &str = r#"unreadable_after = "1 s""#;
