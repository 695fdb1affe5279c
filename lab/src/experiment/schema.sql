-- The runs of an experiment, copied from their recordings (copy.sql). tables.sql makes the document's tables of them.

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    cell INTEGER NOT NULL,
    boot TEXT NOT NULL,         -- the cell's name: SVM, busybox, ide
    short TEXT NOT NULL,        -- the same without the processor
    name TEXT NOT NULL,
    real_seconds REAL NOT NULL,
    stalls INTEGER NOT NULL,    -- attempts before this one that ended at the time limit
    isa TEXT NOT NULL,
    exits INTEGER NOT NULL,
    kvm_exits INTEGER,          -- NULL: KVM's count could not be read at least once
    lost INTEGER NOT NULL,
    seconds REAL NOT NULL       -- of the outer machine's clock, from the first exit to the last
);
CREATE TABLE intervals (run INTEGER, begins REAL, ends REAL, exits INTEGER);
CREATE TABLE interval_reasons (run INTEGER, begins REAL, reason TEXT, exits INTEGER);
CREATE TABLE reasons (run INTEGER, reason TEXT, exits INTEGER, user_exits INTEGER);
CREATE TABLE returns (run INTEGER, returned TEXT, count INTEGER);

-- Runs that count: nothing was lost, and KVM counted the same.
CREATE VIEW exact AS SELECT * FROM runs WHERE kvm_exits = exits AND lost = 0;

-- Events for which both processors, or one of them, exit often. Names as `exitscope reasons` has them.
CREATE TABLE events (event INTEGER, what TEXT, isa TEXT, reason TEXT);
INSERT INTO events VALUES
    (1, 'port I/O', 'svm', 'IOIO'), (1, 'port I/O', 'vmx', 'IO_INSTRUCTION'),
    (2, 'memory the guest has not, devices'' registers', 'svm', 'NPF'),
    (2, 'memory the guest has not, devices'' registers', 'vmx', 'EPT_VIOLATION'),
    (2, 'memory the guest has not, devices'' registers', 'vmx', 'EPT_MISCONFIG'),
    (3, 'MSRs', 'svm', 'MSR'), (3, 'MSRs', 'vmx', 'MSR_READ'), (3, 'MSRs', 'vmx', 'MSR_WRITE'),
    (4, 'CPUID', 'svm', 'CPUID'), (4, 'CPUID', 'vmx', 'CPUID'),
    (5, 'control registers', 'svm', 'READ_CR0'), (5, 'control registers', 'svm', 'READ_CR3'),
    (5, 'control registers', 'svm', 'READ_CR4'), (5, 'control registers', 'svm', 'WRITE_CR0'),
    (5, 'control registers', 'svm', 'WRITE_CR3'), (5, 'control registers', 'svm', 'WRITE_CR4'),
    (5, 'control registers', 'svm', 'WRITE_CR8'), (5, 'control registers', 'svm', 'CR0_SEL_WRITE'),
    (5, 'control registers', 'vmx', 'CR_ACCESS'),
    (6, 'the guest can take an interrupt now', 'svm', 'VINTR'),
    (6, 'the guest can take an interrupt now', 'vmx', 'INTERRUPT_WINDOW'),
    (7, 'the host''s own interrupts', 'svm', 'INTR'), (7, 'the host''s own interrupts', 'svm', 'NMI'),
    (7, 'the host''s own interrupts', 'vmx', 'EXTERNAL_INTERRUPT'),
    (7, 'the host''s own interrupts', 'vmx', 'EXCEPTION_NMI'),
    (8, 'the guest''s timer, counted down by the processor', 'vmx', 'PREEMPTION_TIMER'),
    (9, 'HLT', 'svm', 'HLT'), (9, 'HLT', 'vmx', 'HLT'),
    (10, 'all other types', NULL, NULL);
