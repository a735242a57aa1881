/* Rotation: the writer replaces the ensemble by ONE etcd txn on the stream key: If(rev==mine && OPEN)
   Then(seal seg0 at my committed index, open seg1 with first=that+1). Ensembles never change in place.
   Node j hosts seg0-replica j and seg1-replica 3+j; one node may lose its disk (limbo). */
#ifndef MAXE
#define MAXE 2
#endif
#ifndef NREC
#define NREC 1
#endif
#define QA 2
#define MUST(claim, cond) assert((cond) || claim)
hidden byte ACKED_IN_SEAL, ONE_SEAL, ACKED_SURVIVES, OLD_SEAL_READABLE, SEAL_READABLE;
#define COV 2
byte acc[6]; byte prom[6]; bit limbo[3];
byte ackR[6]; byte sentTo; byte acked; bit wstop; byte wseg; byte wbase; byte wrev = 1; bit rotPending;
byte meta; byte rev = 1; byte cur; byte end0; byte fin; byte nseals; byte s3End; byte losses;
byte rst[NREC]; byte repEp[NREC]; byte endR[NREC]; byte rseg[NREC]; bit frep[NREC*6]; byte ftail[NREC*6];
hidden byte q; hidden byte c; hidden byte e; hidden byte ok; hidden byte got;
#ifdef M_ACKDURINGROTATE
#define ACKGUARD true
#else
#define ACKGUARD !rotPending
#endif
/* entry n is readable iff in s3, or a live replica of the segment that owns n holds it */
inline covered(n) { ok = (s3End >= n || n == 0); q = 0;
  do :: q < 3 -> if :: !limbo[q] && ((cur == 0 && acc[q] >= n) || (cur == 1 && n <= end0 && acc[q] >= n) || (cur == 1 && n > end0 && acc[3+q] >= n)) -> ok = 1 :: else fi; q++
     :: else -> break od }
inline CHECK() {
  MUST(ACKED_IN_SEAL, !(meta == 2 && acked > fin)); MUST(ONE_SEAL, nseals <= 1);
  covered(acked); MUST(ACKED_SURVIVES, ok);
  if :: cur == 1 -> covered(end0); MUST(OLD_SEAL_READABLE, ok) :: else fi;
  if :: meta == 2 -> covered(fin); MUST(SEAL_READABLE, ok) :: else fi }
#define R0(r) \
  :: d_step { !limbo[r] && acc[r] < sentTo && prom[r] <= 1 -> acc[r]++ } \
  :: d_step { !limbo[r] && ackR[r] < acc[r] -> ackR[r] = acc[r] } \
  :: d_step { !limbo[r] && wseg == 1 && acc[3+r] < sentTo && prom[3+r] <= 1 -> if :: acc[3+r] < wbase -> acc[3+r] = wbase + 1 :: else -> acc[3+r]++ fi } \
  :: d_step { !limbo[r] && ackR[3+r] < acc[3+r] -> ackR[3+r] = acc[3+r] } \
  :: d_step { losses < 1 && !limbo[r] && (acc[r] > 0 || acc[3+r] > 0) -> losses++; acc[r] = 0; acc[3+r] = 0; prom[r] = 0; prom[3+r] = 0; limbo[r] = 1; CHECK() }
#define F(k,r) \
  :: d_step { rst[k] == 1 && !limbo[r] && !frep[k*6+rseg[k]*3+r] && prom[rseg[k]*3+r] <= repEp[k] -> \
       prom[rseg[k]*3+r] = repEp[k]; frep[k*6+rseg[k]*3+r] = 1; ftail[k*6+rseg[k]*3+r] = acc[rseg[k]*3+r] }
#define REC(k) \
  :: d_step { rst[k] == 0 && meta != 2 -> meta = 1; rev++; repEp[k] = rev; rseg[k] = cur; rst[k] = 1 } \
  :: d_step { rst[k] == 1 -> c = 0; e = 0; q = 0; \
       do :: q < 3 -> if :: frep[k*6+rseg[k]*3+q] && !limbo[q] -> c++; if :: ftail[k*6+rseg[k]*3+q] > e -> e = ftail[k*6+rseg[k]*3+q] :: else fi :: else fi; q++ :: else -> break od; \
       if :: rseg[k] == 1 && e < end0 -> e = end0 :: else fi; \
       if :: c >= COV -> got = (e == 0 || (rseg[k] == 1 && e == end0)); q = 0; \
            do :: q < 3 -> if :: !limbo[q] && acc[rseg[k]*3+q] >= e -> got = 1 :: else fi; q++ :: else -> break od; \
            if :: got -> if :: s3End < e -> s3End = e :: else fi; endR[k] = e; rst[k] = 2 :: else fi \
          :: else fi } \
  :: d_step { rst[k] == 2 -> if :: meta == 1 && rev == repEp[k] -> meta = 2; rev++; fin = endR[k]; nseals++; CHECK() :: else fi; endR[k] = 0; rst[k] = 3 }
init { end: do
  :: d_step { !wstop && sentTo < MAXE -> sentTo++ }
  :: d_step { !wstop && acked < sentTo && ACKGUARD -> c = 0; q = 0; do :: q < 3 -> if :: ackR[wseg*3+q] > acked -> c++ :: else fi; q++ :: else -> break od;
      if :: c >= QA -> acked++; CHECK() :: else fi }
  /* rotate: request sent (outcome unknown to the writer) ... */
  :: d_step { !wstop && wseg == 0 && !rotPending -> rotPending = 1; wbase = acked }
  /* ... txn applies in etcd at some point */
  :: d_step { rotPending && meta == 0 && rev == wrev && cur == 0 -> cur = 1; end0 = wbase; rev++; CHECK() }
  /* ... writer learns the outcome */
  :: d_step { rotPending && cur == 1 && !wstop -> rotPending = 0; wseg = 1; wrev = wrev + 1 }
  :: d_step { rotPending && meta != 0 && cur == 0 -> wstop = 1; rotPending = 0 }
#ifdef M_BLINDROTATE   /* writer assumes success without the CAS: opens seg1 although a recoverer owns the stream */
  :: d_step { rotPending && meta != 0 && cur == 0 && !wstop -> rotPending = 0; wseg = 1 }
#endif
  R0(0) R0(1) R0(2)
  F(0,0) F(0,1) F(0,2) REC(0)
#if NREC > 1
  F(1,0) F(1,1) F(1,2) REC(1)
#endif
  od }
