//! The local cloud: an emulated AWS, a registry, and one real systemd machine per emulated instance.
