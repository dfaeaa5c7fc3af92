package io.github.libgrate.http;

import java.net.URI;
import java.net.http.HttpRequest;

/** Makes the HTTP request for the provider that was chosen, with that provider's address and credentials. */
@FunctionalInterface
public interface RequestFactory {
    /**
     * Called once per attempt, on the thread that called {@link GrateHttpClient#send}.
     *
     * @param provider name of the provider
     * @param base its base URI
     * @return the request to send
     */
    HttpRequest create(String provider, URI base);
}
