//! Every exit reason that the hardware manuals define: code, name, meaning, advice.

mod kvm;
mod name;
mod svm;
mod vmx;

pub use name::name;
