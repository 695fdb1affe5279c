//! Metadata of a recording: where it was made, and the VMs, vCPUs, reasons and intervals that its rows refer to.

use super::about;
use super::blocks::{FULL, HOUR, MINUTE};
use super::breakdown::{self, BreakdownKey};
use super::columns::{Columns, Order};
use super::open::Database;
use super::{Error, schema, text};
use exitscope_model::{About, ExitCode, Level, Source, Vm, VmId, Witness};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A VM of the recording, and in which intervals it was there.
pub struct VmLife {
    /// The VM.
    pub vm: Vm,
    /// From this one on.
    pub first: i64,
    /// Up to this one; `None` for all that follow.
    pub last: Option<i64>,
}

/// A vCPU of the recording, likewise.
pub struct VcpuLife {
    /// Number by which rows refer to it.
    pub key: i64,
    /// VM of the vCPU.
    pub vm: VmId,
    /// Number of the vCPU in the VM.
    pub number: u32,
    /// From this interval on.
    pub first: i64,
    /// Up to this one; `None` for all that follow.
    pub last: Option<i64>,
}

/// Place of an interval in time.
#[derive(Clone, Copy)]
pub struct Moment {
    /// Number by which rows refer to it, one after the other; of several intervals together, that of the first.
    pub id: i64,
    /// Number of the last interval of several, or its own.
    pub last: i64,
    /// Level of the block that it is in: an interval as it was recorded, or a sum that took its place.
    pub level: i64,
    /// Its begin by the host's clock.
    pub start: SystemTime,
    /// Its end by the host's clock.
    pub end: SystemTime,
    /// Time from the beginning of the recording to that of the interval.
    pub offset: Duration,
    /// Length of the interval.
    pub length: Duration,
}

/// Breakdowns by their number in blobs: a reason, as rows call it, and what its exits were about or led to.
pub type Breakdowns = HashMap<i64, (i64, BreakdownKey)>;

/// The most bytes of texts, as recorders write them.
mod most {
    /// Names: of facts, parameters and what stands in columns for one of a few words.
    pub const WORD: usize = 256;
    /// Names of VMs and VMMs.
    pub const NAME: usize = 256;
    /// Values of facts, a command line among them, and of parameters.
    pub const FACT: usize = 1 << 20;
    /// Command lines of VMs: 64 KiB, each byte of which may be written as six.
    pub const COMMAND: usize = 6 * (64 << 10) + 16;
    /// Number of reasons: a processor has some 200 codes, for each of two levels.
    pub const REASONS: usize = 2_048;
}

impl Database {
    /// The version of its schema, if it is a recording, and one that this program knows.
    pub fn check_schema(&self) -> Result<usize, Error> {
        let path = self.path().to_owned();
        let connection = self.connection();
        let found: i64 =
            self.said(connection.pragma_query_value(None, "application_id", |row| row.get(0)))?;
        let version = self.said(schema::version(connection))?;
        let found = i32::try_from(found).unwrap_or(0);
        if found != schema::APPLICATION_ID {
            let anything = "SELECT EXISTS (SELECT 1 FROM sqlite_schema)";
            let anything: bool = self.said(connection.query_row(anything, [], |row| row.get(0)))?;
            return Err(match (found, anything) {
                (0, false) => Error::NoSchema(path),
                _ => Error::Foreign { path, found, expected: schema::APPLICATION_ID },
            });
        }
        let known = schema::VERSION;
        let version = match usize::try_from(version) {
            Ok(version) if (1..=known).contains(&version) => version,
            _ if version > 0 => {
                return Err(Error::Newer { path, found: version, known, tool: env!("CARGO_PKG_VERSION") });
            }
            _ => return Err(self.damaged(format!("its schema has the number {version}, the first is 1"))),
        };
        for (table, expected) in self.said(schema::tables(version))? {
            let of_table = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?";
            let found = connection.query_row(of_table, [&table], |row| row.get::<_, String>(0));
            match found {
                Ok(found) if found == expected => {}
                Ok(_) => return Err(self.damaged(format!("its table {table} is not as recordings have it"))),
                Err(rusqlite::Error::QueryReturnedNoRows) => {
                    return Err(self.damaged(format!("it has no table {table}")));
                }
                Err(cause) => return Err(self.bounds().explain("read", cause)),
            }
        }
        Ok(version)
    }

    /// Gives each row of a query to `take`. Queries read a table in the order of its primary key, by which it lies in the file,
    /// and sort nothing; whether the rows come in that order is for `take` to check.
    pub fn rows(
        &self,
        query: &str,
        mut take: impl FnMut(&Columns<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut statement = self.said(self.connection().prepare(query))?;
        let mut rows = self.said(statement.query([]))?;
        while let Some(row) = self.said(rows.next())? {
            self.count(row)?;
            take(&Columns { row, path: self.path() })?;
        }
        Ok(())
    }

    /// All facts.
    pub fn facts(&self) -> Result<BTreeMap<String, String>, Error> {
        let mut facts = BTreeMap::new();
        let mut order = Order::new();
        self.rows("SELECT name, value FROM facts INDEXED BY sqlite_autoindex_facts_1", |row| {
            let name = row.text(0, most::WORD)?;
            order.next(name.clone()).map_err(|()| self.damaged("its facts are not in order"))?;
            facts.insert(name, row.text(1, most::FACT)?);
            Ok(())
        })?;
        Ok(facts)
    }

    /// Reads the description of the recording from its facts.
    pub fn about(&self, facts: &BTreeMap<String, String>) -> Result<About, Error> {
        let fact = |name: &str| {
            facts.get(name).cloned().ok_or_else(|| self.damaged(format!("it has no fact {name:?}")))
        };
        let wrong = |name: &str, found: &str| {
            let found: String = found.chars().take(60).collect();
            self.damaged(format!("its fact {name:?} is {found:?}"))
        };
        let mut kvm = BTreeMap::new();
        let mut order = Order::new();
        self.rows(
            "SELECT module, name, value FROM kvm_parameters INDEXED BY sqlite_autoindex_kvm_parameters_1",
            |row| {
                let key = (row.text(0, most::WORD)?, row.text(1, most::WORD)?);
                order.next(key.clone()).map_err(|()| self.damaged("KVM's parameters are not in order"))?;
                kvm.insert(key, row.text(2, most::FACT)?);
                Ok(())
            },
        )?;
        let (source, measured, command) = (fact("source")?, fact("measured")?, fact("command")?);
        let interval = fact("interval_ns")?;
        Ok(About {
            tool: fact("tool")?,
            host: fact("host")?,
            kernel: fact("kernel")?,
            cpu: fact("cpu")?,
            cpus: fact("cpus")?.parse().map_err(|_| wrong("cpus", &facts["cpus"]))?,
            kvm,
            facts: facts
                .iter()
                .filter_map(|(name, value)| Some((name.strip_prefix(about::HOST)?.to_owned(), value.clone())))
                .collect(),
            command: text::words(&command).ok_or_else(|| wrong("command", &command))?,
            interval: interval
                .parse()
                .map(Duration::from_nanos)
                .map_err(|_| wrong("interval_ns", &interval))?,
            source: Source::from_word(&source).ok_or_else(|| wrong("source", &source))?,
            measured: about::value(&about::MEASURED, &measured.as_str())
                .ok_or_else(|| wrong("measured", &measured))?,
        })
    }

    /// All intervals.
    pub fn moments(&self) -> Result<Vec<Moment>, Error> {
        let mut moments: Vec<Moment> = Vec::new();
        let mut offset = 0_u64;
        let query = "SELECT id, start_ns, end_ns, offset_ns, length_ns FROM intervals NOT INDEXED";
        self.rows(query, |row| {
            let id = row.int(0)?;
            let follows = moments.last().map_or(1, |last| last.id + 1);
            let (found, length) = (row.number(3)?, row.number(4)?);
            if id != follows || found != offset {
                return Err(self.damaged(format!("interval {id} does not follow the one before it")));
            }
            let wall = |ns: u64| SystemTime::UNIX_EPOCH + Duration::from_nanos(ns);
            moments.push(Moment {
                id,
                last: id,
                level: FULL,
                start: wall(row.number(1)?),
                end: wall(row.number(2)?),
                offset: Duration::from_nanos(offset),
                length: Duration::from_nanos(length),
            });
            offset = offset.checked_add(length).ok_or_else(|| self.damaged("it is longer than time"))?;
            Ok(())
        })?;
        Ok(moments)
    }

    /// All intervals of a recording of version 5 or later, and before them minutes and hours that took the place of some.
    pub fn packed_moments(&self) -> Result<Vec<Moment>, Error> {
        let full = self.spans(
            "SELECT id, id, start_ns, end_ns, offset_ns, length_ns FROM intervals NOT INDEXED",
            FULL,
        )?;
        let columns = "id, last_interval, start_ns, end_ns, offset_ns, length_ns";
        let minutes = self.spans(&format!("SELECT {columns} FROM minutes NOT INDEXED"), MINUTE)?;
        let hours = self.spans(&format!("SELECT {columns} FROM hours NOT INDEXED"), HOUR)?;
        let mut moments: Vec<Moment> = Vec::with_capacity(full.len());
        let first = |of: &[Moment]| of.first().map_or(i64::MAX, |moment| moment.id);
        let (first_minute, first_full) = (first(&minutes), first(&full));
        moments.extend(hours.into_iter().filter(|hour| hour.last < first_minute.min(first_full)));
        moments.extend(minutes.into_iter().filter(|minute| minute.last < first_full));
        moments.extend(full);
        for pair in moments.windows(2) {
            let end = pair[0].offset + pair[0].length;
            if pair[0].last.checked_add(1) != Some(pair[1].id) || end != pair[1].offset {
                return Err(
                    self.damaged(format!("interval {} does not follow the one before it", pair[1].id))
                );
            }
        }
        if moments.first().is_some_and(|first| (first.id == 1) != first.offset.is_zero()) {
            return Err(self.damaged("its first interval does not follow the one before it"));
        }
        Ok(moments)
    }

    /// Places in time of intervals, or of several together: number, last, begin and end, offset and length.
    fn spans(&self, query: &str, level: i64) -> Result<Vec<Moment>, Error> {
        let mut moments = Vec::new();
        let mut order = Order::new();
        let mut length = 0_u64;
        self.rows(query, |row| {
            let (id, last) = (row.int(0)?, row.int(1)?);
            let wrong = || self.damaged(format!("interval {id} does not follow the one before it"));
            if order.next(id).is_err() || id < 1 || last < id {
                return Err(wrong());
            }
            let wall = |ns: u64| SystemTime::UNIX_EPOCH + Duration::from_nanos(ns);
            let (offset_ns, length_ns) = (row.number(4)?, row.number(5)?);
            length = length.checked_add(length_ns).ok_or_else(|| self.damaged("it is longer than time"))?;
            moments.push(Moment {
                id,
                last,
                level,
                start: wall(row.number(2)?),
                end: wall(row.number(3)?),
                offset: Duration::from_nanos(offset_ns),
                length: Duration::from_nanos(length_ns),
            });
            Ok(())
        })?;
        Ok(moments)
    }

    /// All VMs, by when they came.
    pub fn vms(&self) -> Result<Vec<VmLife>, Error> {
        let mut vms: Vec<VmLife> = Vec::new();
        let mut order = Order::new();
        let query =
            "SELECT id, pid, name, vmm, command, first_interval, last_interval, ended FROM vms NOT INDEXED";
        self.rows(query, |row| {
            let id = row.int(0)?;
            order.next(id).map_err(|()| self.damaged("its VMs are not in order"))?;
            let command = row.text(4, most::COMMAND)?;
            let words = text::words(&command)
                .ok_or_else(|| self.damaged(format!("the command line of VM {id} is no list of words")))?;
            let vm = Vm {
                id: VmId(id.cast_unsigned()),
                pid: row.narrow(1)?,
                name: row.text(2, most::NAME)?,
                vmm: row.text(3, most::NAME)?,
                command: words.join("\0").into(),
                labels: Default::default(),
                ended: row.number(7)? != 0,
            };
            vms.push(VmLife { vm, first: row.int(5)?, last: row.maybe(6)?.map(u64::cast_signed) });
            Ok(())
        })?;
        vms.sort_by_key(|span| span.first);
        Ok(vms)
    }

    /// Reads the labels of VMs, in a recording of version 4 or later. A key that a later program has written is left out.
    pub fn labels(&self, vms: &mut [VmLife]) -> Result<(), Error> {
        let by_id: HashMap<i64, usize> =
            (0..).zip(vms.iter()).map(|(at, life)| (life.vm.id.0.cast_signed(), at)).collect();
        let mut order = Order::new();
        self.rows("SELECT vm, key, value FROM labels INDEXED BY sqlite_autoindex_labels_1", |row| {
            let (id, key, value) = (row.int(0)?, row.text(1, most::WORD)?, row.text(2, most::NAME)?);
            order.next((id, key.clone())).map_err(|()| self.damaged("its labels are not in order"))?;
            let life = by_id.get(&id).and_then(|at| vms.get_mut(*at));
            let life =
                life.ok_or_else(|| self.damaged(format!("it has a label of VM {id}, which is none")))?;
            let labels = Arc::make_mut(&mut life.vm.labels);
            if key == about::NAMED_BY {
                let witness = Witness::ALL.into_iter().find(|witness| witness.word() == value);
                labels.witness = witness.ok_or_else(|| {
                    self.damaged(format!("VM {id} is named by {value:?}, which is no witness"))
                })?;
            } else {
                labels.set(&key, value);
            }
            Ok(())
        })
    }

    /// All vCPUs, by when they came.
    pub fn vcpus(&self) -> Result<Vec<VcpuLife>, Error> {
        let mut vcpus = Vec::new();
        let mut order = Order::new();
        let query = "SELECT id, vm, number, first_interval, last_interval FROM vcpus NOT INDEXED";
        self.rows(query, |row| {
            let id = row.int(0)?;
            order.next(id).map_err(|()| self.damaged("its vCPUs are not in order"))?;
            let life = VcpuLife {
                key: id,
                vm: VmId(row.int(1)?.cast_unsigned()),
                number: row.narrow(2)?,
                first: row.int(3)?,
                last: row.maybe(4)?.map(u64::cast_signed),
            };
            vcpus.push(life);
            Ok(())
        })?;
        vcpus.sort_by_key(|life| life.first);
        Ok(vcpus)
    }

    /// All reasons, by what rows call them.
    pub fn reasons(&self) -> Result<HashMap<i64, (Level, ExitCode)>, Error> {
        let mut reasons = HashMap::new();
        let mut order = Order::new();
        self.rows("SELECT id, level, isa, code FROM reasons NOT INDEXED", |row| {
            let (id, level, isa) = (row.int(0)?, row.int(1)?, row.text(2, most::WORD)?);
            order.next(id).map_err(|()| self.damaged("its reasons are not in order"))?;
            if reasons.len() == most::REASONS {
                let most = most::REASONS;
                return Err(self.damaged(format!("it has more than {most} reasons, which no processor has")));
            }
            let wrong = |what: String| self.damaged(format!("reason {id} has {what}"));
            let level = about::value(&about::LEVELS, &level)
                .ok_or_else(|| wrong(format!("the level {level}, there are 1 and 2")))?;
            let isa = about::value(&about::ISAS, &isa.as_str())
                .ok_or_else(|| wrong(format!("the codes of {isa:?}, there are vmx, svm and kvm")))?;
            reasons.insert(id, (level, ExitCode { isa, code: row.int(3)? }));
            Ok(())
        })?;
        Ok(reasons)
    }

    /// Returns all breakdowns of a recording of this version, which is 2 or later.
    pub fn breakdowns(&self, version: usize) -> Result<Breakdowns, Error> {
        let mut all = Breakdowns::new();
        let mut order = Order::new();
        let query = match version {
            2 => "SELECT id, reason, kind, number, write FROM uses NOT INDEXED",
            _ => "SELECT id, reason, kind, key, attributes FROM breakdowns NOT INDEXED",
        };
        self.rows(query, |row| {
            let (id, kind) = (row.int(0)?, row.text(2, most::WORD)?);
            order.next(id).map_err(|()| self.damaged("its breakdowns are not in order"))?;
            let key = row.maybe_int(3)?;
            let attributes = row.maybe(4)?;
            let what = match version {
                2 => breakdown::from_second(&kind, key, attributes),
                _ => {
                    let attributes = attributes.map(|_| row.narrow(4)).transpose()?;
                    breakdown::from_columns(&kind, key, attributes)
                }
            };
            let what = what.ok_or_else(|| {
                self.damaged(format!("breakdown {id} is of {kind:?} and {key:?}, which is none"))
            })?;
            all.insert(id, (row.int(1)?, what));
            Ok(())
        })?;
        Ok(all)
    }
}
