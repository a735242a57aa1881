package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// ErrStaleReads is wrapped by CheckVersion.
var ErrStaleReads = errors.New("etcd servers before 3.4.42, 3.5.28 and 3.6.9 can serve stale linearizable reads after a pause")

// firstSound is the first patch release of each minor that has the fix for stale reads.
var firstSound = map[int]int{4: 42, 5: 28, 6: 9}

// CheckVersion tells whether a server of that version keeps linearizability. Pre-releases count as older than their release.
func CheckVersion(version string) error {
	core, pre, _ := strings.Cut(strings.TrimPrefix(version, "v"), "-")
	core, _, _ = strings.Cut(core, "+")
	parts := strings.Split(core, ".")
	if len(parts) != 3 {
		return fmt.Errorf("etcd server version %q: not understood", version)
	}
	var n [3]int
	for i, p := range parts {
		var err error
		if n[i], err = strconv.Atoi(p); err != nil || n[i] < 0 {
			return fmt.Errorf("etcd server version %q: not understood", version)
		}
	}
	major, minor, patch := n[0], n[1], n[2]
	if pre != "" {
		patch--
	}
	if major > 3 || (major == 3 && minor > 6) {
		return nil
	}
	sound, known := firstSound[minor]
	if major == 3 && known && patch >= sound {
		return nil
	}
	return fmt.Errorf("etcd server version %s: %w", version, ErrStaleReads)
}

// checkVersions asks every endpoint for its version. Endpoints that do not answer are skipped while one does.
func (s *KV) checkVersions(ctx context.Context, o Options) error {
	timeout := orDefault(o.DialTimeout, defaultTimeout)
	var failed []error
	answered := false
	for _, endpoint := range o.Endpoints {
		st, err := s.serverStatus(ctx, endpoint, timeout)
		if err != nil {
			if code(err) == codes.PermissionDenied {
				o.Logger.Warn("etcd does not let this user ask for the server's version; make sure that it is 3.4.42, 3.5.28, 3.6.9 or newer", "endpoint", endpoint)
				answered = true
				continue
			}
			failed = append(failed, fmt.Errorf("%s: %w", endpoint, err))
			continue
		}
		answered = true
		if err := CheckVersion(st.GetVersion()); err != nil {
			if !o.AllowStaleReads {
				return fmt.Errorf("endpoint %s: %w", endpoint, err)
			}
			o.Logger.Warn("etcd server is known to serve stale reads; accepted because the configuration says so", "endpoint", endpoint, "version", st.GetVersion())
		}
	}
	if !answered {
		return fmt.Errorf("%w: no endpoint answers: %w", kv.ErrUnavailable, errors.Join(failed...))
	}
	for _, err := range failed {
		o.Logger.Warn("etcd endpoint does not answer; its version is not checked", "error", err)
	}
	return nil
}
