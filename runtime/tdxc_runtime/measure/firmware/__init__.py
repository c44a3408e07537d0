"""TD firmware (TDVF): its metadata, the MRTD that follows, its variable store and which edk2 rules it obeys."""
