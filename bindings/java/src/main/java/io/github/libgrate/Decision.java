package io.github.libgrate;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** Where a request goes, and why: the provider that was chosen, or, when nothing is available, the one that frees first. */
public final class Decision extends Candidate {
    private static final long serialVersionUID = 1;

    /** Candidates of a decision that explains itself; the first ones if a capability has more. */
    static final int MAX_CANDIDATES = 1024;

    // In grate_decision the lease stands before the fields that it shares with grate_candidate.
    private static final int SHIFT = Structs.Decision.PROVIDER - Structs.Candidate.PROVIDER;

    /** Null if the request did not ask to explain. */
    private final ArrayList<Candidate> candidates;

    /** Reads the scratch's decision, and its candidates from the start of {@code rows} unless that is null. */
    Decision(Memory memory, Names names, Memory rows) {
        super(memory, Scratch.DECISION, Scratch.DECISION + SHIFT, names);
        if (rows == null) {
            candidates = null;
        } else {
            int count = (int) memory.getLong(Scratch.DECISION + Structs.Decision.CANDIDATES_LEN);
            candidates = new ArrayList<>(count);
            for (int i = 0; i < count; i++) {
                candidates.add(new Candidate(rows, i * Structs.Candidate.SIZE, names));
            }
        }
    }

    /**
     * All providers of the capability: those that can be chosen, best first, then those that are held, soonest free first. At
     * most 1024.
     *
     * @return the candidates
     * @throws IllegalStateException if the request did not ask to {@linkplain Request.Builder#explain explain}
     */
    public List<Candidate> candidates() {
        if (candidates == null) {
            throw new IllegalStateException("this decision was not explained: the request must ask for it");
        }
        return Collections.unmodifiableList(candidates);
    }
}
