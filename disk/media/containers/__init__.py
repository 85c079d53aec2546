"""Containers of disk images, read where they lie: qcow2, VHD, VMDK and VDI; compressed ones are unpacked first."""
