package broker

import (
	"strings"
	"testing"
	"time"
)

// TestDeleteGraceHasAFloor: with 0 the maintainer would take its own default, and with very little no manifest is ever published.
func TestDeleteGraceHasAFloor(t *testing.T) {
	for grace, ok := range map[time.Duration]bool{0: false, time.Millisecond: false, minDeleteGrace - 1: false, minDeleteGrace: true, Default().DeleteGrace: true} {
		c := Default()
		c.DeleteGrace = grace
		if err := c.Validate(); strings.Contains(err.Error(), "delete-grace") == ok {
			t.Errorf("%v: %v", grace, err)
		}
	}
}
