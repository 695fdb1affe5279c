-- Other names of VMs, and by which witness each has its name (key 'named_by').
CREATE TABLE labels (
    vm INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (vm, key)
) STRICT, WITHOUT ROWID;
-- Times of the threads that work for a VM beside its vCPUs. A VM that has no row in an interval was not looked at in it.
CREATE TABLE workers (
    interval_id INTEGER NOT NULL,
    vm INTEGER NOT NULL,
    span_ns INTEGER NOT NULL,
    main_cpu_ns INTEGER NOT NULL,
    main_waiting_ns INTEGER NOT NULL,
    io_cpu_ns INTEGER NOT NULL,
    io_waiting_ns INTEGER NOT NULL,
    other_cpu_ns INTEGER NOT NULL,
    other_waiting_ns INTEGER NOT NULL,
    vhost_cpu_ns INTEGER NOT NULL,
    vhost_waiting_ns INTEGER NOT NULL,
    kvm_cpu_ns INTEGER NOT NULL,
    kvm_waiting_ns INTEGER NOT NULL,
    PRIMARY KEY (interval_id, vm)
) STRICT, WITHOUT ROWID;

CREATE VIEW by_worker AS
    SELECT m.name AS vm, m.pid, m.id AS vm_id, sum(w.span_ns) AS span_ns,
        sum(w.main_cpu_ns) AS main_cpu_ns, sum(w.main_waiting_ns) AS main_waiting_ns,
        sum(w.io_cpu_ns) AS io_cpu_ns, sum(w.io_waiting_ns) AS io_waiting_ns,
        sum(w.other_cpu_ns) AS other_cpu_ns, sum(w.other_waiting_ns) AS other_waiting_ns,
        sum(w.vhost_cpu_ns) AS vhost_cpu_ns, sum(w.vhost_waiting_ns) AS vhost_waiting_ns,
        sum(w.kvm_cpu_ns) AS kvm_cpu_ns, sum(w.kvm_waiting_ns) AS kvm_waiting_ns
    FROM workers w JOIN vms m ON m.id = w.vm
    GROUP BY m.id
    ORDER BY m.id;
