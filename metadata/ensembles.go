package metadata

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// Bounds of an ensemble.
const (
	MaxEnsembleMembers = 7
	MaxDiskIDBytes     = 64
)

// Member is a replica of a WAL stream: a broker and the disk that it had when it became one. Another disk is another member, which
// holds nothing of the stream.
type Member struct {
	Broker BrokerID
	Disk   string // Broker.Token of its registration
}

// Ensemble is who replicates a stream at present. Values are not changed.
type Ensemble struct {
	Members []Member // the owner's own log included
	// Quorum is how many of them must hold what is acknowledged by replication. While there are fewer members than that, nothing is, and the stream
	// acknowledges what is committed, like one of the class object.
	Quorum   int
	Revision Revision // mod revision of the record
}

// Has tells whether m is a member.
func (e *Ensemble) Has(m Member) bool { return slices.Contains(e.Members, m) }

func (e *Ensemble) validate() error {
	n := len(e.Members)
	if n == 0 || n > MaxEnsembleMembers || e.Quorum < 1 || e.Quorum > MaxEnsembleMembers || 2*e.Quorum <= n {
		return fmt.Errorf("%w: ensemble of %d members with a quorum of %d: 1 to %d members, and a quorum is more than half of them", ErrInvalid, n, e.Quorum, MaxEnsembleMembers)
	}
	for i, m := range e.Members {
		if m.Broker < 0 || m.Disk == "" || len(m.Disk) > MaxDiskIDBytes {
			return fmt.Errorf("%w: member %d of an ensemble: broker %d, disk id of %d bytes", ErrInvalid, i, m.Broker, len(m.Disk))
		}
		if slices.ContainsFunc(e.Members[:i], func(o Member) bool { return o.Broker == m.Broker }) {
			return fmt.Errorf("%w: broker %d is twice in an ensemble", ErrInvalid, m.Broker)
		}
	}
	return nil
}

// CreateReplicatedStream is CreateStream for the class quorum, with the stream's first ensemble, which names the owner. Repeating it with the same
// members returns what is there while the stream is OPEN; with others it is ErrExists.
func (s *Store) CreateReplicatedStream(ctx context.Context, owner BrokerID, incarnation Incarnation, members []Member, quorum int) (*StreamState, *Ensemble, error) {
	e := &Ensemble{Members: slices.Clone(members), Quorum: quorum}
	err := e.validate()
	if err == nil && !slices.ContainsFunc(members, func(m Member) bool { return m.Broker == owner }) {
		err = fmt.Errorf("%w: its owner, broker %d, is not in the ensemble", ErrInvalid, owner)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("create stream: %w", err)
	}
	key := s.keys.ensemble(NewStreamID(incarnation, ClassQuorum))
	st, err := s.createStream(ctx, owner, incarnation, ClassQuorum, kv.Put(key, appendEnsemble(nil, e)))
	if err != nil {
		return nil, nil, err
	}
	now, err := s.Ensemble(ctx, st.ID)
	if err != nil {
		return nil, nil, err
	}
	if !slices.Equal(now.Members, e.Members) || now.Quorum != quorum {
		return nil, nil, fmt.Errorf("create stream %s: %w: with another ensemble", st.ID, ErrExists)
	}
	return st, now, nil
}

// Ensemble reads the present ensemble of a stream. After RecoverStream it cannot change any more. ErrNotFound.
func (s *Store) Ensemble(ctx context.Context, id StreamID) (*Ensemble, error) {
	page, err := s.read(ctx, kv.Range{Start: s.keys.ensemble(id)})
	if err == nil && len(page.Pairs) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("ensemble of stream %s: %w", id, err)
	}
	return ensembleOf(id, page.Pairs[0])
}

func ensembleOf(id StreamID, p kv.Pair) (*Ensemble, error) {
	e, err := decodeEnsemble(p.Value)
	if err != nil {
		return nil, fmt.Errorf("ensemble of stream %s: %w", id, err)
	}
	e.Revision = Revision(p.ModRevision)
	return &e, nil
}

// ChangeEnsemble replaces the ensemble of an OPEN stream. It compares the stream's record, which must be at revision stream, and the
// ensemble's, which must be as in old. The caller has stopped acknowledging, and a quorum of the new members holds all that was acknowledged; it
// acknowledges again when this has returned without an error, by the new ensemble.
//
// While the outcome is unknown the same transaction is repeated until ctx is done: an earlier attempt may still be performed, so that reading the old
// record proves nothing. After ErrUnavailable the caller therefore stays frozen and calls again with the same arguments. ErrFenced: somebody
// recovers the stream or has changed the ensemble; the caller must stop.
func (s *Store) ChangeEnsemble(ctx context.Context, id StreamID, stream Revision, old *Ensemble, members []Member, quorum int) (*Ensemble, error) {
	next := &Ensemble{Members: slices.Clone(members), Quorum: quorum}
	if err := next.validate(); err != nil {
		return nil, fmt.Errorf("change the ensemble of stream %s: %w", id, err)
	}
	key := s.keys.ensemble(id)
	t := kv.Txn{
		If:   []kv.Compare{kv.Unchanged(s.keys.stream(id), int64(stream)), kv.Unchanged(key, int64(old.Revision))},
		Then: []kv.Op{kv.Put(key, appendEnsemble(nil, next))},
		Else: []kv.Op{kv.Get(s.keys.stream(id)), kv.Get(key)},
	}
	for attempt := 0; ; attempt++ {
		res, _, err := s.txn(ctx, t)
		if errors.Is(err, ErrUnavailable) && ctx.Err() == nil && pause(ctx, min(attempt+1, txnAttempts)) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("change the ensemble of stream %s: %w", id, err)
		}
		if res.Succeeded {
			next.Revision = Revision(res.Revision)
			return next, nil
		}
		if revisionOf(res.Gets[0]) == int64(stream) && len(res.Gets[1]) == 1 {
			// The stream is still the caller's, and only its writer changes the ensemble: this is what an earlier attempt made of it.
			now, err := ensembleOf(id, res.Gets[1][0])
			if err == nil && now.Quorum == quorum && slices.Equal(now.Members, next.Members) {
				return now, nil
			}
		}
		return nil, fmt.Errorf("change the ensemble of stream %s: %w: the stream or its ensemble has changed", id, ErrFenced)
	}
}
