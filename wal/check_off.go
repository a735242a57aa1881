//go:build !walcheck

package wal

func allocSlabs(sizeBytes int) ([]byte, error) { return mapSlabs(sizeBytes) }
func freeSlabs(mem []byte) error               { return unmapSlabs(mem) }
func relaxSlab(mem []byte)                     { releasePages(mem) }

func checkTaken(*slab)     {}
func checkRecycled(*slab)  {}
func checkAcquired(Ref)    {}
func checkReleased(Ref)    {}
func checkHolders() string { return "" }
