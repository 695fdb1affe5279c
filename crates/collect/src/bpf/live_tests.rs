//! Details of exits that no emulator makes, read by the programs' own code from structures that are made up:
//! bpf/madeup.bpf.c. Needs root and KVM's modules: run in the lab as the other `live_tests`.

use super::{object, patch, wire};
use crate::image::image;
use exitscope_model::{Attributes, Detail, DetailKind};
use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, ObjectBuilder, ProgramInput};

const VMX: u32 = 1;
const SVM: u32 = 2;

/// `struct made_up` of bpf/madeup.bpf.c.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct MadeUp {
    code: u64,
    info: u64,
    info_2: u64,
    interruption: u64,
    rax: u64,
    rcx: u64,
    rang: u64,
    hooked_key: u64,
    hooked_attributes: u32,
    hooked_kind: u32,
    isa: u32,
    vm_type: u32,
    is_protected: u32,
    unread: u32,
}

const WORDS: usize = size_of::<MadeUp>() / 8;

impl MadeUp {
    fn bytes(self) -> Vec<u8> {
        // SAFETY: a struct of integers without padding, as its size shows: eight of 64 bits, six of 32.
        let words: [u64; WORDS] = unsafe { std::mem::transmute(self) };
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }
}

struct Programs {
    object: Object,
    map: MapHandle,
}

impl Programs {
    fn load() -> Programs {
        let image = patch::with_masks(image!("madeup"), &patch::masks(4, 4, 1, 1));
        let mut open = ObjectBuilder::default().open_memory(&image).unwrap();
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            let bytes = |elements: usize, size: usize| u32::try_from(elements * size).unwrap();
            match name.rsplit('.').next() {
                Some("rows") => map.set_value_size(bytes(5, size_of::<wire::row>())).unwrap(),
                Some("vcpus") => map.set_value_size(bytes(4, size_of::<wire::vcpu_slot>())).unwrap(),
                Some("config") if name.contains("rodata") => {
                    let config =
                        wire::config { kinds: u32::MAX, max_rows: 4, max_vcpus: 4, ..Default::default() };
                    map.set_initial_value(object::bytes_of(&config)).unwrap();
                }
                _ => {}
            }
        }
        let object = open.load().expect("root, KVM's modules, and a kernel with their types");
        let map = object.maps().find(|map| map.name().to_string_lossy().ends_with(".data.madeup")).unwrap();
        let map = MapHandle::try_from(&map).unwrap();
        Programs { object, map }
    }

    /// Returns what an exit is about, and whether this kernel knows kinds of VMs.
    fn read(&mut self, exit: MadeUp) -> (Option<Detail>, bool) {
        let mut bytes = exit.bytes();
        let size = usize::try_from(self.map.value_size()).unwrap();
        bytes.resize(size, 0);
        self.map.update(&0u32.to_ne_bytes(), &bytes, MapFlags::ANY).unwrap();
        let program = self.object.progs_mut().find(|program| program.name() == "madeup_detail").unwrap();
        let packet = [0; 64];
        program.test_run(ProgramInput { data_in: Some(&packet), ..Default::default() }).unwrap();
        let read = self.map.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
        let word = |at: usize| u64::from_ne_bytes(read[8 * at..8 * at + 8].try_into().unwrap());
        let [attributes, kind] =
            [0, 32].map(|shift| u32::try_from(word(WORDS + 1) >> shift & 0xffff_ffff).unwrap());
        let detail = DetailKind::from_number(kind).map(|kind| Detail {
            kind,
            key: word(WORDS),
            attributes: Attributes(attributes),
        });
        (detail, word(WORDS + 2) != 0)
    }

    fn text(&mut self, exit: MadeUp) -> String {
        self.read(exit).0.map_or("other".to_owned(), |detail| format!("{} {}", detail.kind, detail.text()))
    }
}

fn vmx(code: u64, info: u64) -> MadeUp {
    MadeUp { isa: VMX, code, info, ..MadeUp::default() }
}

fn svm(code: u64, info: u64) -> MadeUp {
    MadeUp { isa: SVM, code, info, ..MadeUp::default() }
}

#[test]
fn what_no_emulator_has_is_read_as_the_manuals_say() {
    let mut programs = Programs::load();
    for (exit, expected) in [
        // AVIC: APM vol. 2, 15.29.9.
        (svm(0x401, 0xfd << 32), "apic 0x300 written"),
        (svm(0x402, 1 << 32 | 0xb0), "apic 0xb0 written"),
        (svm(0x402, 0x20), "apic 0x20 read"),
        // APIC virtualization: SDM vol. 3, "APIC-Write VM Exits" and those before it.
        (vmx(56, 0x80), "apic 0x80 written"),
        (vmx(45, 0x31), "apic eoi:0x31 written"),
        (vmx(44, 1 << 12 | 0x380), "apic 0x380 written"),
        (vmx(44, 0x390), "apic 0x390 read"),
        // What is on one vendor's processors alone, or which KVM leaves to the guest.
        (vmx(28, 2 << 4), "cr cr0 written CLTS"),
        (vmx(28, 3 << 4 | 7 << 16), "cr cr0 written LMSW"),
        (vmx(28, 1 << 4 | 3), "cr cr3 read"),
        (vmx(29, 1 << 4 | 7), "dr dr7 read"),
        (vmx(9, 0x8000_0028), "task 0x28"),
        (svm(0x7d, 0x28), "task 0x28"),
        (svm(0x65, 0), "cr cr0 written"),
        (MadeUp { rax: 0x20, ..svm(0x8c, 0) }, "mwait 0x20"),
        (MadeUp { rax: 0x33, ..vmx(36, 0) }, "mwait 0x33"),
        (MadeUp { interruption: 0x8000_0b0e, ..vmx(0, 0) }, "vector 14"),
        (MadeUp { rang: 0x1101, ..svm(0x7b, 0x1100_0010) }, "port 0x1100 out doorbell"),
        (MadeUp { rang: 0x1102, ..svm(0x7b, 0x1100_0010) }, "port 0x1100 out"),
        // What KVM has not read is not that of this exit.
        (MadeUp { unread: 1, ..vmx(30, 0x3f8_0000) }, "other"),
        (MadeUp { unread: 1, interruption: 0x8000_0b0e, ..vmx(0, 0) }, "other"),
        (vmx(48, 0), "other"),
        (vmx(12, 0), "other"),
    ] {
        assert_eq!(programs.text(exit), expected, "code {:#x}, {:#x}", exit.code, exit.info);
    }
    // 0xec is nobody's IRQ.
    let timer = MadeUp { interruption: 0x8000_00ec, ..vmx(1, 0) };
    assert_eq!(programs.text(timer), "host-vector 0xec");
}

/// A TD's port exits carry something else where others have the port; and one under debug does not say that it is protected.
#[test]
fn guests_that_keep_their_registers_have_no_details() {
    let mut programs = Programs::load();
    let port = vmx(30, 0x3f8_0000);
    assert_eq!(programs.text(port), "port 0x3f8 out");
    let secret = MadeUp { is_protected: 1, ..port };
    assert_eq!(programs.text(secret), "other");
    let (_, knows_types) = programs.read(port);
    // KVM_X86_DEFAULT_VM, SW_PROTECTED_VM, SEV_VM, SEV_ES_VM, SNP_VM, TDX_VM: arch/x86/include/uapi/asm/kvm.h.
    for vm_type in 0..=5 {
        let keeps = knows_types && vm_type >= 3;
        for exit in [port, svm(0x7b, 0x3f8_0010), MadeUp { rcx: 0x10, ..svm(0x7c, 1) }] {
            let text = programs.text(MadeUp { vm_type, ..exit });
            assert_eq!(text == "other", keeps, "VM of kind {vm_type}: {text}");
        }
    }
}
