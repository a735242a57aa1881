//go:build unix && !linux

package wal

func adviseHuge([]byte) {}
