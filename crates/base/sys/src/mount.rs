//! Mounts by descriptor: fsopen, fsmount, open_tree, move_mount, mount_setattr, pivot_root, umount2.
