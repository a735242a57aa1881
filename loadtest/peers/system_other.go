//go:build !linux

package main

import (
	"errors"
	"os"
)

func forget(*os.File) error { return errors.ErrUnsupported }

func freeBytes(string) (int64, error) { return 0, errors.ErrUnsupported }
