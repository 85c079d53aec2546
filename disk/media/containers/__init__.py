"""Containers of disk images, read in place: qcow2, VHD, VMDK and VDI; compressed ones are unpacked first."""
