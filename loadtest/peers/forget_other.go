//go:build !linux

package main

import (
	"errors"
	"os"
)

func forget(*os.File) error { return errors.ErrUnsupported }
