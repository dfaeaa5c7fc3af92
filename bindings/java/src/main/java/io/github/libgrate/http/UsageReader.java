package io.github.libgrate.http;

import io.github.libgrate.Response;
import java.net.http.HttpResponse;

/**
 * Tells what a request used, from its response: the tokens that the body reports, its bytes or its cost.
 *
 * @param <T> type of the body
 */
@FunctionalInterface
public interface UsageReader<T> {
    /**
     * Called once the whole body has arrived, before the lease is settled. Not called for a response that is retried or whose
     * body failed or was given up: usage is as estimated then (none, if it was refused).
     *
     * <p>It must not read from a streaming body, which is the caller's of {@link GrateHttpClient#send}. For those, have a {@code
     * BodyHandlers.fromLineSubscriber} find the usage on its way and return it as the body.
     *
     * <p>If it throws an exception, or what it fills in is invalid, that is logged as a warning of the {@link System.Logger} {@code
     * io.github.libgrate}, and usage is as estimated.
     *
     * @param response the response, with its body
     * @param report what will be reported; status and headers are filled in
     */
    void read(HttpResponse<? extends T> response, Response.Builder report);
}
