//! Boots the appliance images and diskless devices in QEMU on a virtual LAN; knows the images only from outside.
