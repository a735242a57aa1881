package broker

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestDataDirIsLockedAndKeepsItsToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openDataDir(path); !errors.Is(err, errLocked) {
		t.Errorf("second open: %v", err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	again, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	if again.token != d.token || len(again.token) != 2*tokenBytes {
		t.Errorf("token %q, was %q", again.token, d.token)
	}
}

func TestDataDirRefusesAnotherIdentity(t *testing.T) {
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, identityFile), []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := openDataDir(path); err == nil {
		t.Errorf("opened with token %q", d.token)
	}
}
