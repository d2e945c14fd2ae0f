export interface LoginRequest { email: string; password: string }
export interface TokenPair { access_token: string; refresh_token: string; expires_in: number }
export interface User { id: string; email: string; permissions: string[] }
