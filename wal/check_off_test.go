//go:build !walcheck

package wal_test

// thorough says that slab misuse is watched for.
const thorough = false
